"""`kwela aws` against moto's server: what is asked of AWS, over real HTTP, and what a reader is told."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ssm.models import Parameter, ssm_backends
from moto_account import LAUNCH, NAMED, US, Call, actions, amazons_image, asked_for, ec2, instances, only, run

from kwela.campaign.run import message_sender
from kwela.errors import UserError
from kwela.machines import public_address
from kwela.machines.aws import instance, launching
from kwela.machines.aws.session import open_session
from scratch import ROOT, Done

pytestmark = pytest.mark.usefixtures("account")


def refused(done: Done, *says: str, status: int = 2) -> None:
    """It ended with one line that says so, and launched nothing."""
    assert done.status == status, done
    assert len(done.err.splitlines()) == 1 and "Traceback" not in done.err, done.err
    for words in says:
        assert words in done.err
    assert instances() == []


def test_launch_asks_aws_for_the_playbooks_machine() -> None:
    done = run(*LAUNCH, "--yes")
    assert done.status == 0, done.err
    machine = only()
    assert (machine["InstanceType"], machine["KeyName"], machine["State"]["Name"]) == (
        "g4dn.xlarge",
        "my-key",
        "running",
    )
    assert machine["Placement"]["AvailabilityZone"].startswith(US)
    assert (machine["MetadataOptions"]["HttpTokens"], machine["MetadataOptions"]["HttpEndpoint"]) == (
        "required",
        "enabled",
    )
    assert "InstanceLifecycle" not in machine
    assert {"Key": "kwela", "Value": "phase-2-5"} in machine["Tags"]
    (disk,) = ec2().describe_volumes()["Volumes"]
    assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == (500, "gp3", True)
    assert machine["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is False
    assert f"ssh -i my-key.pem ubuntu@{machine['PublicIpAddress']}" in done.out


def test_the_price_is_said_beside_the_playbooks_before_anything_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = run(*LAUNCH)  # nobody answers
    refused(done, "--yes goes on without asking")
    assert "playbook      $1.300   $1,456.00" in done.out  # 56 days of 20 hours
    assert "on demand     $0.526     $589.12" in done.out
    assert "500 GB gp3, encrypted: $40.00 a month" in done.out


def test_a_no_launches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    refused(run(*LAUNCH), "nothing was launched", status=1)


def test_spot_goes_through_instance_market_options_and_can_be_stopped_and_started(calls: list[Call]) -> None:
    done = run(*LAUNCH, "--yes", "--market", "spot", "--elastic-ip")
    assert done.status == 0, done.err
    assert only()["InstanceLifecycle"] == "spot"
    asked = next(wanted for service, operation, wanted in calls if operation == "RunInstances")
    # Only a persistent request that is stopped, not terminated, can be stopped and started by hand.
    assert asked["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
    }
    assert "playbook      $0.390     $436.80" in done.out and "spot now" in done.out
    (address,) = ec2().describe_addresses()["Addresses"]
    assert address["InstanceId"] == only()["InstanceId"] and address["PublicIp"] in done.out


def test_the_machine_may_do_what_its_profile_says_and_no_more() -> None:
    """As in docs/machines.md: a role that EC2 may take, with the policy of `campaign check`."""
    deployment, iam = ROOT / "deployment/aws", boto3.client("iam", region_name=US)
    trust, may = ((deployment / name).read_text() for name in ("trust.json", "machine.json"))
    iam.create_role(RoleName="kwela-machine", AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName="kwela-machine", PolicyName="kwela", PolicyDocument=may)
    iam.create_instance_profile(InstanceProfileName="kwela-machine")
    iam.add_role_to_instance_profile(InstanceProfileName="kwela-machine", RoleName="kwela-machine")
    done = run(*LAUNCH, "--yes", "--iam-instance-profile", "kwela-machine")
    assert done.status == 0, done.err
    assert only()["IamInstanceProfile"]["Arn"].endswith(":instance-profile/kwela-machine")
    assert not any(
        action.split(":")[1].startswith(("Run", "Start", "Stop", "Create")) for action in actions(may)
    )
    ec2().terminate_instances(InstanceIds=[only()["InstanceId"]])
    assert run(*LAUNCH, "--yes").status == 0  # the control: nothing unless asked
    assert "IamInstanceProfile" not in next(
        each for each in instances() if each["State"]["Name"] == "running"
    )


def test_a_persistent_request_that_would_launch_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run(*LAUNCH, "--yes", "--market", "spot")
    assert (
        "to end it for good" not in run("aws", "status").out
    )  # moto doesn't give the request's id; AWS does
    real = BaseClient._make_api_call

    def with_request(self: Any, operation: str, wanted: Any) -> Any:
        answer = real(self, operation, wanted)
        for group in answer.get("Reservations", []):
            group["Instances"][0]["SpotInstanceRequestId"] = "sir-1"
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", with_request)
    command = "aws ec2 cancel-spot-instance-requests --spot-instance-request-ids sir-1"
    ends = f"first {command}: or EC2 launches another"
    assert ends in run("aws", "stop").out


def test_an_instance_that_is_there_can_be_given_an_address_that_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(*LAUNCH, "--yes")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    asked = run(*LAUNCH, "--elastic-ip")  # it costs money: nobody answers
    assert asked.status == 2 and "Elastic IP: $3.65 a month until you release it" in asked.out
    assert ec2().describe_addresses()["Addresses"] == []
    given = run(*LAUNCH, "--elastic-ip", "--yes")
    (address,) = ec2().describe_addresses()["Addresses"]
    assert (
        given.status == 0
        and address["InstanceId"] == only()["InstanceId"]
        and address["PublicIp"] in given.out
    )
    again = run(*LAUNCH, "--elastic-ip")  # it has one: nothing to ask
    (same,) = ec2().describe_addresses()["Addresses"]
    assert again.status == 0 and same["PublicIp"] == address["PublicIp"] and same["PublicIp"] in again.out


def test_running_it_twice_names_the_one_that_runs(calls: list[Call]) -> None:
    run(*LAUNCH, "--yes")
    again = run(*LAUNCH, "--yes")
    assert again.status == 0 and "phase-2-5 is there already, running" in again.out
    assert only()["InstanceId"] in again.out
    run("aws", "stop")
    assert "stopped (kwela aws start starts it)" in run(*LAUNCH, "--yes").out
    assert [operation for _, operation, _ in calls].count("RunInstances") == 1
    run(*LAUNCH, "--yes", "--name", "another")  # the control: another name is another machine
    assert len(instances()) == 2


def test_two_launches_in_the_same_minute_ask_for_the_same_instance(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "time", SimpleNamespace(time=lambda: 1.8e9))
    for name in ("phase-2-5", "phase-2-5", "another"):
        assert run(*LAUNCH, "--yes", "--name", name).status == 0
        ec2().terminate_instances(
            InstanceIds=[each["InstanceId"] for each in instances()]
        )  # not seen by the next
    tokens = [wanted["ClientToken"] for _, operation, wanted in calls if operation == "RunInstances"]
    assert tokens[0] == tokens[1] != tokens[2] and len(tokens[0]) == 64


def rules() -> set[tuple[int, str]]:
    (group,) = ec2().describe_security_groups(Filters=[{"Name": "group-name", "Values": ["kwela-*"]}])[
        "SecurityGroups"
    ]
    return {
        (rule["FromPort"], span["CidrIp"]) for rule in group["IpPermissions"] for span in rule["IpRanges"]
    }


def test_only_the_callers_address_of_today_is_let_in() -> None:
    run(*LAUNCH, "--yes")
    assert rules() == {(22, "203.0.113.7/32"), (6006, "203.0.113.7/32")}
    assert only()["SecurityGroups"][0]["GroupName"] == "kwela-phase-2-5"
    assert run("aws", "start", "--from", "203.0.113.99").status == 0
    assert rules() == {(22, "203.0.113.99/32"), (6006, "203.0.113.99/32")}


def test_start_stop_and_status_tell_what_it_costs() -> None:
    run(*LAUNCH, "--yes")
    stopped = run("aws", "stop")
    assert (
        stopped.status == 0 and "stopped" in stopped.out and "$40.00 a month, running or not" in stopped.out
    )
    assert only()["State"]["Name"] == "stopped"
    assert run("aws", "stop").status == 0  # stopped already
    started = json.loads(run("aws", "start", "--from", "203.0.113.7", "--json").out)
    assert started["state"] == "running" == only()["State"]["Name"]
    status = run("aws", "status")
    assert "running, g4dn.xlarge, on-demand" in status.out and "at $0.526 an hour" in status.out
    machine = json.loads(run("aws", "status", "--json").out)
    assert (machine["id"], machine["price"], machine["disk_gb"]) == (only()["InstanceId"], 0.526, 500)


def test_the_disk_outlives_its_instance_and_is_not_forgotten() -> None:
    run(*LAUNCH, "--yes")
    ec2().terminate_instances(InstanceIds=[only()["InstanceId"]])
    (disk,) = ec2().describe_volumes()["Volumes"]
    gone = run("aws", "status")
    assert "phase-2-5: no instance in us-east-1" in gone.out
    assert (
        f"{disk['VolumeId']}: a disk of 500 GB" in gone.out
        and "$40.00 a month until aws ec2 delete-volume" in gone.out
    )
    assert run(*LAUNCH, "--yes").status == 0  # a terminated one is in nobody's way


def test_the_newest_of_amazons_images_is_taken_by_name_and_nobody_elses(calls: list[Call]) -> None:
    newest = amazons_image(f"{NAMED}1120", datetime(2026, 11, 20))
    amazons_image("Deep Learning AMI (Amazon Linux 2) 20261121", datetime(2026, 11, 21))
    strangers = amazons_image(f"{NAMED}1122", datetime(2026, 11, 22))
    ec2_backends[DEFAULT_ACCOUNT_ID][US].amis[strangers].owner_alias = None
    session = open_session(US)
    assert instance.image(session) == instance.Image(newest, f"{NAMED}1120", "/dev/sda1")
    assert "GetParameter" in [operation for _, operation, _ in calls]


def test_awss_own_parameter_comes_before_the_search() -> None:
    amazons_image(f"{NAMED}1120", datetime(2026, 11, 20))
    named = amazons_image("whatever it is called", datetime(2026, 1, 1))
    ssm = ssm_backends[DEFAULT_ACCOUNT_ID][US]
    parameter = Parameter(ssm, instance.IMAGE_PARAMETER, named, "String", "", "", "", 0.0, 1, "text")  # type: ignore[arg-type]
    ssm._parameters[instance.IMAGE_PARAMETER].append(parameter)
    assert instance.image(open_session(US)).id == named


def full(*zones: str) -> Any:
    """EC2 without room in those zones."""
    real = EC2Backend.run_instances

    def run_instances(self: EC2Backend, *arguments: Any, **settings: Any) -> Any:
        if self.get_subnet(settings["subnet_id"]).availability_zone in zones:
            raise EC2ClientError(
                "InsufficientInstanceCapacity", "We currently do not have sufficient capacity."
            )
        return real(self, *arguments, **settings)

    return run_instances


def test_a_zone_without_room_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    zones = instance.zones(open_session(US), "g4dn.xlarge")
    monkeypatch.setattr(EC2Backend, "run_instances", full(*zones[:2]))
    assert run(*LAUNCH, "--yes").status == 0
    assert only()["Placement"]["AvailabilityZone"] == zones[2]


def test_no_room_anywhere_is_a_failure_and_not_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EC2Backend, "run_instances", full(*instance.zones(open_session(US), "g4dn.xlarge")))
    refused(run(*LAUNCH, "--yes"), "no capacity now: try again later", status=1)


def test_the_alarm_is_made_where_billing_is_counted_and_tells_somebody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    nothing = run("aws", "alarm")
    assert nothing.status == 2 and "no billing alarm yet" in nothing.err
    for _ in range(2):  # twice: one alarm, one subscription
        done = run("aws", "alarm", "--email", "you@example.com")
        assert done.status == 0 and "Billing alarm at $600.00 a month" in done.out
    (alarm,) = boto3.client("cloudwatch", region_name=US).describe_alarms()["MetricAlarms"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Billing", "EstimatedCharges")
    assert alarm["Dimensions"] == [{"Name": "Currency", "Value": "USD"}] and alarm["Threshold"] == 600
    sns = boto3.client("sns", region_name=US)
    (topic,) = sns.list_topics()["Topics"]
    assert alarm["AlarmActions"] == [topic["TopicArn"]] and topic["TopicArn"] in done.out
    (who,) = sns.list_subscriptions()["Subscriptions"]
    assert (who["Protocol"], who["Endpoint"]) == ("email", "you@example.com")
    changed = json.loads(run("aws", "alarm", "--email", "you@example.com", "--dollars", "800", "--json").out)
    assert changed["dollars"] == 800 and changed["emails"] == {"you@example.com": True} and changed["ready"]


def test_an_address_that_nobody_confirmed_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BaseClient._make_api_call

    def unconfirmed(self: Any, operation: str, wanted: Any) -> Any:
        answer = real(self, operation, wanted)
        for each in answer.get("Subscriptions", []):
            each["SubscriptionArn"] = "PendingConfirmation"  # as AWS has it until the link is followed
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", unconfirmed)
    done = run("aws", "alarm", "--email", "you@example.com")
    assert "you@example.com: NOT CONFIRMED" in done.out
    assert json.loads(run("aws", "alarm", "--json").out)["ready"] is False


def test_a_stop_of_an_instance_is_mailed_to_the_same_people() -> None:
    sns, events = (boto3.client(service, region_name=US) for service in ("sns", "events"))
    topic = sns.create_topic(Name="kwela-billing-phase-2-5")["TopicArn"]
    before = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])["Statement"]
    for _ in range(2):  # twice: one rule, one target, one statement
        done = run("aws", "alarm", "--email", "you@example.com")
        assert (
            done.status == 0
            and "mails too when an instance of us-east-1 stops; of another region's" in done.out
        )
    (rule,) = events.list_rules()["Rules"]
    arn, about = rule["Arn"], json.loads(rule["EventPattern"])
    assert rule["State"] == "ENABLED" and about["detail"] == {"state": ["stopping", "stopped", "terminated"]}
    said = {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification"}
    assert all(about[key] == [value] for key, value in said.items())
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == topic and "RoleArn" not in target, arn
    template = json.loads(target["InputTransformer"]["InputTemplate"])  # one JSON string
    assert set(re.findall("<(.*?)>", template)) == set(target["InputTransformer"]["InputPathsMap"])
    after = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])["Statement"]
    assert after[:-1] == before != []  # what the account's own may do stays
    assert after[-1]["Principal"] == {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]}
    assert (after[-1]["Effect"], after[-1]["Action"], after[-1]["Resource"]) == (
        "Allow",
        "sns:Publish",
        topic,
    )
    events.disable_rule(Name=rule["Name"])  # the control
    assert "nobody is told when an instance stops" in run("aws", "alarm").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--key-name", "nobody's"],
            ["--key-name nobody's: no such key pair in us-east-1", "there are my-key"],
        ),
        (["--type", "q9.huge"], ["us-east-1 has no q9.huge"]),
        (["--region", "mars-1"], ["mars-1: no such AWS region"]),
        (["--from", "nowhere"], ["--from nowhere: not an IPv4 address"]),
        (["--from", "0.0.0.0/0"], ["--from 0.0.0.0/0: not an IPv4 address"]),
        (["--profile", "nobody"], ["nobody"]),
        (["--name", "a b"], ["--name a b: letters, digits"]),
        (["--disk-gb", "7"], ["--disk-gb"]),
        (["--market", "gift"], ["--market"]),
    ],
)
def test_bad_input_is_one_line_and_launches_nothing(arguments: list[str], says: list[str]) -> None:
    refused(run(*LAUNCH, "--yes", *arguments), *says)


def test_what_is_not_there_is_one_line_too() -> None:
    for command in ("start", "stop"):
        refused(
            run("aws", command, *(["--from", "203.0.113.7"] if command == "start" else [])),
            "kwela aws launch makes",
        )
    refused(run("aws", "alarm", "--email", "you@nowhere"), "not an e-mail address")
    refused(run("aws", "alarm", "--email", "you@example.com", "--dollars", "nan"), "--dollars")
    refused(run("aws", "launch"), "Missing option '--key-name'")


def test_without_credentials_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as bare:
        bare.delenv("AWS_ACCESS_KEY_ID")
        bare.delenv("AWS_SECRET_ACCESS_KEY")
        bare.setenv("AWS_EC2_METADATA_DISABLED", "true")
        done = run("aws", "status")
        bare.setenv("AWS_ACCESS_KEY_ID", "half of a pair")
        half = run("aws", "status")
    refused(done, "no AWS credentials: run aws configure")
    refused(half, "no AWS credentials: run aws configure")


def test_without_permission_one_line_names_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: EC2Backend, *_: Any, **__: Any) -> Any:
        raise EC2ClientError("UnauthorizedOperation", "You are not authorized\nto perform this operation.")

    monkeypatch.setattr(EC2Backend, "run_instances", denied)
    refused(
        run(*LAUNCH, "--yes"), "AWS refused RunInstances: You are not authorized to perform this operation."
    )


def test_an_aws_that_does_not_answer_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = run("aws", "status")
    assert done.status == 1 and len(done.err.splitlines()) == 1 and "AWS doesn't answer" in done.err


def test_without_boto3_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as bare:
        bare.setitem(__import__("sys").modules, "boto3", None)
        done = run("aws", "status")
    refused(done, "pip install 'kwela[aws]'")


def test_the_callers_address_is_what_the_outside_sees() -> None:
    said = [b"198.51.100.4\n", b"<html>sign in</html>"]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.pop(0))

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert public_address.caller_address(service=url) == "198.51.100.4"
    with pytest.raises(UserError, match="not an IPv4 address"):  # a hotel's page is no address
        public_address.caller_address(service=url)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="give it with --from"):
        public_address.caller_address(service=url)


def test_the_machines_role_allows_what_its_campaign_asks_and_nothing_else(calls: list[Call]) -> None:
    run(*LAUNCH, "--yes")
    topic = json.loads(run("aws", "alarm", "--email", "you@example.com", "--json").out)["topic"]
    calls.clear()
    checked = run("campaign", "check")
    assert run("aws", "alarm").status == 0
    assert only()["InstanceId"] in checked.out and "refused" not in checked.out
    message_sender.send("SNS", topic, {"text": "a flag"})
    assert asked_for(calls) == set(actions((ROOT / "deployment/aws/machine.json").read_text()))


def test_the_shipped_policy_allows_what_is_asked_and_nothing_else(calls: list[Call]) -> None:
    run(*LAUNCH, "--yes", "--market", "spot", "--elastic-ip")
    run("aws", "stop")
    run("aws", "start", "--from", "203.0.113.8")
    run("aws", "status")
    run("aws", "alarm", "--email", "you@example.com")
    for arguments in (("--hours", "20"), ("--hours", "18"), ("--off",)):
        assert run("aws", "schedule", *arguments).status == 0
    asked = asked_for(calls)
    allowed = set(actions((ROOT / "deployment/aws/policy.json").read_text()))
    assert asked <= allowed
    implied = {"ec2:CreateTags", "sns:TagResource"}  # by a creation with tags
    assert allowed - asked == implied | {"pricing:GetProducts"}  # which is asked outside us-east-1
