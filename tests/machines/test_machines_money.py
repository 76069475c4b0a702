"""What costs money is told: failed launches, leftovers, other regions; and `kwela aws schedule`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, ReadTimeoutError
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance, StateReason
from moto_account import LAUNCH, NAMED, US, Call, amazons_image, ec2, instances, only, run

from kwela.machines.aws import prices, schedule
from kwela.machines.aws.session import open_session
from scratch import ROOT

pytestmark = pytest.mark.usefixtures("account")

EU = "eu-west-1"
REQUEST = {"LaunchSpecification": {"ImageId": "ami-1", "InstanceType": "g4dn.xlarge"}}
TAGS = [{"Key": "kwela", "Value": "phase-2-5"}]
OF_A_REQUEST = [{"ResourceType": "spot-instances-request", "Tags": TAGS}]
Patched = Callable[[Callable[[str, Any, Any], Any]], None]


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Patched:
    """Have a function see each call (operation, wanted, ask) in the place of AWS; ask() is moto's answer."""
    real = BaseClient._make_api_call

    def patch(answer: Callable[[str, Any, Any], Any]) -> None:
        def call(self: Any, operation: str, wanted: Any) -> Any:
            return answer(operation, wanted, lambda: real(self, operation, wanted))

        monkeypatch.setattr(BaseClient, "_make_api_call", call)

    return patch


# ------------------------------------------------------------------ the region


@pytest.mark.parametrize(
    ("environment", "options", "region"),
    [
        ({"AWS_REGION": EU}, [], EU),
        ({"AWS_REGION": EU, "AWS_DEFAULT_REGION": "us-west-2"}, [], EU),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-west-2"}, [], "us-west-2"),
        ({"AWS_REGION": EU}, ["--region", "us-west-2"], "us-west-2"),
        ({"AWS_REGION": EU, "AWS_PROFILE": "north"}, [], EU),
        ({"AWS_PROFILE": "north"}, [], "eu-north-1"),
        ({}, [], US),
    ],
)
def test_the_region_is_the_aws_clis(
    environment: dict[str, str],
    options: list[str],
    region: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config").write_text("[profile north]\nregion = eu-north-1\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run("aws", "status", *options)
    assert done.status == 0 and f"no instance in {region} " in done.out, done


def test_a_launch_in_another_region_says_no_price_of_us_east_1(
    monkeypatch: pytest.MonkeyPatch, patched: Patched
) -> None:
    monkeypatch.setenv("AWS_REGION", EU)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    ec2(EU).create_key_pair(KeyName="my-key")
    amazons_image(f"{NAMED}1006", datetime(2026, 10, 6), EU)
    done = run(*LAUNCH)
    assert "500 GB gp3, encrypted: a price not known here" in done.out and "$40.00" not in done.out
    product = {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": "0.088"}}}}}}}

    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        if operation != "GetProducts":
            return ask()
        assert {"Type": "TERM_MATCH", "Field": "regionCode", "Value": EU} in wanted["Filters"]
        return {"PriceList": [json.dumps(product)]}

    patched(answer)
    prices._answers.clear()
    done = run(*LAUNCH)
    assert "500 GB gp3, encrypted: $44.00 a month" in done.out and "on demand     $0.088" in done.out


@pytest.mark.parametrize("said", ["[]", '["{"]', '["{}"]', '[{"terms": 1}]', '["[1]"]'])
def test_a_price_list_that_says_nothing_is_no_price(said: str, patched: Patched) -> None:
    patched(lambda operation, wanted, ask: {"PriceList": json.loads(said)})
    assert prices.disk_month(open_session(EU), 500) is None
    assert prices.disk_month(open_session(US), 500) == 40.0  # the control: known without a question


# ------------------------------------------------------------------ a launch that fails late


def failing(
    operation_to_fail: str, code: str, message: str = "no more\nof these"
) -> Callable[[str, Any, Any], Any]:
    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        if operation == operation_to_fail:
            raise ClientError({"Error": {"Code": code, "Message": message}}, operation)
        return ask()

    return answer


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("AllocateAddress", "AddressLimitExceeded"),
        ("AllocateAddress", "UnauthorizedOperation"),
        ("AssociateAddress", "Resource.AlreadyAssociated"),
    ],
)
def test_an_instance_that_runs_after_a_failed_step_is_named_with_its_price(
    operation: str, code: str, patched: Patched
) -> None:
    patched(failing(operation, code))
    done = run(*LAUNCH, "--yes", "--elastic-ip")
    (one,) = instances()
    assert done.status == 1 and len(done.err.splitlines()) == 1, done
    for words in (
        f"AWS refused {operation}: no more of these ({code})",
        f"BUT {one['InstanceId']} is running at $0.526 an hour",
        "kwela aws launch --key-name my-key --elastic-ip gives it an address",
        "kwela aws stop stops it",
        f"aws ec2 terminate-instances --instance-ids {one['InstanceId']} ends it",
    ):
        assert words in done.err
    if operation == "AssociateAddress":
        assert "Elastic IP" in run("aws", "status").out  # rented, and tied to nothing


def test_a_step_that_fails_elsewhere_names_the_region_and_the_name(patched: Patched) -> None:
    ec2(EU).create_key_pair(KeyName="my-key")
    amazons_image(f"{NAMED}1006", datetime(2026, 10, 6), EU)
    patched(failing("AllocateAddress", "AddressLimitExceeded"))
    done = run(*LAUNCH, "--yes", "--elastic-ip", "--region", EU, "--name", "two")
    assert f"kwela aws stop --name two --region {EU} stops it" in done.err
    assert f"--region {EU} ends it" in done.err


def test_an_instance_that_ec2_ends_at_once_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state"
    real = EC2Backend.run_instances

    def run_instances(self: EC2Backend, *arguments: Any, **settings: Any) -> Any:
        made = real(self, *arguments, **settings)
        for each in made.instances:
            each._state.name, each._state.code = "terminated", 48
            each.state_reason = StateReason(why, "Client.InvalidKMSKey.InvalidState")
        return made

    ec2().request_spot_instances(**REQUEST, Type="persistent", TagSpecifications=OF_A_REQUEST)
    monkeypatch.setattr(EC2Backend, "run_instances", run_instances)
    done = run(*LAUNCH, "--yes", "--market", "spot")
    which = next(each for each in instances() if each["State"]["Name"] == "terminated")
    assert done.status == 1 and len(done.err.splitlines()) == 1
    assert f"{which['InstanceId']} did not come up; it is terminated: {why}" in done.err
    assert "persistent spot request is open" in done.err and "cancel-spot-instance-requests" in done.err
    on_demand = run(*LAUNCH, "--yes")
    assert why in on_demand.err and "spot" not in on_demand.err


def test_a_launch_without_an_answer_may_have_happened(patched: Patched) -> None:
    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        made = ask()
        if operation == "RunInstances":
            raise ReadTimeoutError(endpoint_url="https://ec2")
        return made

    patched(answer)
    done = run(*LAUNCH, "--yes")
    assert done.status == 1 and "look with kwela aws status first" in done.err


def test_a_bill_that_can_not_be_made_does_not_hide_the_instance(patched: Patched) -> None:
    patched(failing("DescribeSpotPriceHistory", "UnauthorizedOperation"))
    refused = run(*LAUNCH, "--yes", "--market", "spot")
    assert refused.status == 2 and instances() == []  # the control: before the launch it is an error
    asked = [0]

    def later(operation: str, wanted: Any, ask: Any) -> Any:
        asked[0] += operation == "DescribeSpotPriceHistory"
        return failing("DescribeSpotPriceHistory" if asked[0] > 1 else "", "Throttling")(
            operation, wanted, ask
        )

    patched(later)
    done = run(*LAUNCH, "--yes", "--market", "spot")
    assert done.status == 0 and f"{only()['InstanceId']} running; its bill is not known" in done.out


def test_a_start_that_fails_says_why_ec2_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    run(*LAUNCH, "--yes")
    run("aws", "stop")
    monkeypatch.setattr(
        Instance,
        "start",
        lambda self, *_: (_ for _ in ()).throw(EC2ClientError("InsufficientInstanceCapacity", "none")),
    )
    done = run("aws", "start", "--from", "203.0.113.8")
    assert done.status == 1 and f"{only()['InstanceId']} is stopped" in done.err


def test_status_gives_ec2s_reason_for_an_instance_that_does_not_run() -> None:
    run(*LAUNCH, "--yes")
    assert "reason" not in run("aws", "status").out
    run("aws", "stop")
    assert "EC2's reason: Client.UserInitiatedShutdown" in run("aws", "status").out


def test_a_prompt_that_nobody_answers_is_one_line(patched: Patched) -> None:
    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        raise EOFError

    patched(answer)
    done = run("aws", "status")
    assert done.status == 2 and "MFA code" in done.err and len(done.err.splitlines()) == 1


# ------------------------------------------------------------------ what is left


def test_everything_that_is_left_is_named_with_its_end() -> None:
    run(*LAUNCH, "--yes", "--elastic-ip")
    which = only()["InstanceId"]
    (volume,) = ec2().describe_volumes()["Volumes"]
    snapshot = ec2().create_snapshot(VolumeId=volume["VolumeId"])["SnapshotId"]
    with_machine = json.loads(run("aws", "status", "--json").out)
    assert [each["id"] for each in with_machine["remains"]] == [snapshot]  # what is the machine's is none
    assert "Elastic IP: $3.65 a month, running or not" in run("aws", "status").out
    ec2().terminate_instances(InstanceIds=[which])
    request = ec2().request_spot_instances(**REQUEST, Type="persistent", TagSpecifications=OF_A_REQUEST)[
        "SpotInstanceRequests"
    ][0]["SpotInstanceRequestId"]
    (address,) = ec2().describe_addresses()["Addresses"]
    facts, text = json.loads(run("aws", "status", "--json").out), run("aws", "status").out
    found = {each["kind"]: each for each in facts["remains"]}
    ids = {"disk": volume["VolumeId"], "address": address["AllocationId"], "snapshot": snapshot}
    ids["spot request"] = request
    for kind, thing in ids.items():
        assert found[kind]["id"] == thing and thing in text and found[kind]["end"] in text
    assert (found["disk"]["usd_month"], found["address"]["usd_month"]) == (40.0, 3.65)
    assert "release-address" in text and "cancel-spot-instance-requests" in text
    run("aws", "launch", "--key-name", "my-key", "--from", "203.0.113.7", "--yes", "--name", "other")
    assert json.loads(run("aws", "status", "--name", "other", "--json").out)["remains"] == []  # the control


def test_a_second_instance_of_the_name_is_named(patched: Patched) -> None:
    run(*LAUNCH, "--yes")
    first = only()["InstanceId"]
    spec = [{"ResourceType": "instance", "Tags": TAGS}]
    ec2().run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, TagSpecifications=spec)
    out = run("aws", "status").out
    assert "a second instance of that name" in out and out.count("terminate-instances") == 1 and first in out


def test_what_may_not_be_looked_at_is_said_and_hides_nothing_else(patched: Patched) -> None:
    run(*LAUNCH, "--yes", "--elastic-ip")
    ec2().terminate_instances(InstanceIds=[only()["InstanceId"]])
    patched(failing("DescribeSpotInstanceRequests", "UnauthorizedOperation"))
    done = run("aws", "status")
    assert done.status == 0 and "spot requests were not looked for: AWS refused" in done.out
    assert "Elastic IP" in done.out and "a disk of 500 GB" in done.out


# ------------------------------------------------------------------ the schedule


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> Any:
    run(*LAUNCH, "--yes")
    return boto3.client("scheduler", region_name=US)


def test_a_schedule_stops_and_starts_the_instance_each_day(scheduled: Any) -> None:
    done = run("aws", "schedule", "--hours", "20", "--zone", "Africa/Johannesburg", "--until", "2099-01-31")
    assert done.status == 0, done.err
    which, role = (
        only()["InstanceId"],
        boto3.client("iam", region_name=US).get_role(RoleName=schedule.ROLE)["Role"],
    )
    for action, expression in (("stop", "cron(0 2 * * ? *)"), ("start", "cron(0 6 * * ? *)")):
        made = scheduled.get_schedule(Name=f"kwela-phase-2-5-{action}")
        assert made["ScheduleExpression"] == expression and made["State"] == "ENABLED"
        assert made["ScheduleExpressionTimezone"] == "Africa/Johannesburg"
        assert made["Target"]["Arn"] == f"arn:aws:scheduler:::aws-sdk:ec2:{action}Instances"
        assert json.loads(made["Target"]["Input"]) == {"InstanceIds": [which]}
        assert made["Target"]["RoleArn"] == role["Arn"] and made["EndDate"].year == 2099
    assert role["AssumeRolePolicyDocument"] == schedule.TRUST
    line = "stops at 02:00, starts at 06:00 (Africa/Johannesburg), 20 h a day, until 2099-01-31"
    assert line in done.out and line in run("aws", "status").out and line in run("aws", "stop").out
    facts = json.loads(run("aws", "status", "--json").out)["schedule"]
    assert (facts["hours"], facts["stop"], facts["start"]) == (20, "02:00", "06:00")
    changed = run("aws", "schedule", "--hours", "12.5", "--stop-at", "18:45", "--zone", "UTC")
    assert "stops at 18:45, starts at 06:15 (UTC), 12.5 h a day" in changed.out
    assert "hours_per_day in ai-service/config.json is 20: set it to 12.5" in changed.out
    off = run("aws", "schedule", "--off")
    assert off.status == 0 and "removed" in off.out and scheduled.list_schedules()["Schedules"] == []
    assert "schedule" not in run("aws", "status").out and "24 h a day" in run("aws", "schedule").out
    assert "there is no schedule" in run("aws", "schedule", "--off").out


def test_a_schedule_outlives_neither_its_instance_nor_a_failure_unseen(
    scheduled: Any, patched: Patched
) -> None:
    run("aws", "schedule", "--hours", "20", "--zone", "UTC")
    old = only()["InstanceId"]
    ec2().terminate_instances(InstanceIds=[old])
    left = run("aws", "status").out
    assert f"a schedule of {old}" in left and "kwela aws schedule --off" in left
    run(*LAUNCH, "--yes", "--disk-gb", "60")
    assert f"but for {old}: kwela aws schedule --hours N sets it anew" in run("aws", "status").out
    scheduled.delete_schedule(Name="kwela-phase-2-5-start")
    assert "only half of it is set" in run("aws", "status").out
    patched(failing("GetSchedule", "AccessDeniedException"))
    assert "schedules were not looked for: AWS refused GetSchedule" in run("aws", "status").out


def test_without_rights_over_iam_one_line_says_who_makes_the_role(scheduled: Any, patched: Patched) -> None:
    iam = boto3.client("iam", region_name=US)
    iam.create_role(RoleName="mine", AssumeRolePolicyDocument="{}")
    patched(failing("CreateRole", "AccessDenied"))
    done = run("aws", "schedule", "--hours", "20")
    assert done.status == 2 and "kwela-scheduler can't be made" in done.err and "--role" in done.err
    assert scheduled.list_schedules()["Schedules"] == []
    assert "no such role" in run("aws", "schedule", "--hours", "20", "--role", "nobody's").err
    assert run("aws", "schedule", "--hours", "20", "--role", "mine").status == 0


def test_a_half_made_schedule_only_stops(scheduled: Any, patched: Patched) -> None:
    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        refuse = operation == "CreateSchedule" and wanted["Name"].endswith("start")
        return failing(operation if refuse else "", "ServiceQuotaExceededException")(operation, wanted, ask)

    patched(answer)
    assert run("aws", "schedule", "--hours", "20").status == 1
    (made,) = scheduled.list_schedules()["Schedules"]
    assert made["Name"].endswith("stop")


def test_a_new_role_that_is_not_known_yet_is_waited_for(
    scheduled: Any, patched: Patched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule.time, "sleep", lambda _: None)
    tries = [0]
    text = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."

    def answer(operation: str, wanted: Any, ask: Any) -> Any:
        tries[0] += operation == "CreateSchedule"
        early = operation == "CreateSchedule" and tries[0] < 3
        return failing(operation if early else "", "ValidationException", text)(operation, wanted, ask)

    patched(answer)
    assert run("aws", "schedule", "--hours", "20").status == 0 and tries[0] == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hours", "24"], "--hours 24: from 0.5 to 23.5"),
        (["--hours", "nan"], "--hours"),
        (["--hours", "-3"], "--hours"),
        (["--hours", "20", "--stop-at", "25:00"], "--stop-at 25:00: a time of day"),
        (["--hours", "20", "--stop-at", "2am"], "--stop-at 2am"),
        (["--hours", "20", "--zone", "Mars/Base"], "--zone Mars/Base: no such time zone"),
        (["--hours", "20", "--zone", "../etc/passwd"], "no such time zone"),
        (["--hours", "20", "--until", "soon"], "--until soon: not a day"),
        (["--hours", "20", "--until", "2020-01-01"], "is past"),
        (["--hours", "20", "--off"], "choose one"),
        (["--hours", "20"], "no instance named phase-2-5"),
    ],
)
def test_a_bad_schedule_is_one_line(arguments: list[str], says: str, calls: list[Call]) -> None:
    done = run("aws", "schedule", *arguments)
    assert done.status == 2 and says in done.err and len(done.err.splitlines()) == 1, done
    assert "CreateRole" not in [operation for _, operation, _ in calls]


def test_the_shipped_files_are_the_roles_that_are_made() -> None:
    folder = ROOT / "deployment/aws"
    assert json.loads((folder / "scheduler.json").read_text()) == schedule.POLICY
    assert json.loads((folder / "scheduler-trust.json").read_text()) == schedule.TRUST
