"""The account's billing alarm, the notice that an instance stopped, and the e-mail of both: an SNS topic.

AWS counts charges in us-east-1 only, whatever the region they arise in, several times a day and hours late: the alarm
tells a person, it can't stop a run. The account must have billing alerts switched on once, in the console (Billing,
Preferences, "Receive CloudWatch billing alerts"); no API does that.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html

A stop is heard of within a minute or so, by a rule of EventBridge's. Rules see their own region and send to topics of
it: the topic is the alarm's, so it is us-east-1's instances that are heard of.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws.instance import TAG, one_line
from kwela.machines.aws.prices import REGION

PERIOD = 6 * 3600  # seconds: how often charges are counted
STOPS = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Instance State-change Notification"],
    "detail": {"state": ["stopping", "stopped", "terminated"]},
}
SENDERS = "kwela-senders"  # our statement in the topic's policy


@dataclass(frozen=True)
class Alarm:
    """`dollars` None: there is no alarm. emails: address -> whether its owner has confirmed it."""

    dollars: float | None
    state: str  # OK, ALARM, INSUFFICIENT_DATA (no charges counted: new, or billing alerts are off); "" without one
    emails: dict[str, bool]
    topic: str | None  # of SNS: its ARN

    @property
    def ready(self) -> bool:
        """Whether somebody would hear of it."""
        return self.dollars is not None and any(self.emails.values())


def look(session: Any, name: str) -> Alarm:
    """The alarm of that name, as it stands."""
    with one_line():
        alarms = session.client("cloudwatch", region_name=REGION).describe_alarms(AlarmNames=[_called(name)])
        sns = session.client("sns", region_name=REGION)
        topics = [
            t["TopicArn"] for page in sns.get_paginator("list_topics").paginate() for t in page["Topics"]
        ]
        topic = next((arn for arn in topics if arn.endswith(f":{_called(name)}")), None)
        emails = _emails(sns, topic) if topic else {}
    if not alarms["MetricAlarms"]:
        return Alarm(None, "", emails, topic)
    alarm = alarms["MetricAlarms"][0]
    return Alarm(alarm["Threshold"], alarm["StateValue"], emails, topic)


def set_up(session: Any, name: str, email: str, dollars: float) -> Alarm:
    """Make or change the alarm, and subscribe `email` unless it is. Raises UserError for what is no address.

    AWS then writes to the address, which gets no alarms before its owner has followed the link in that letter.
    """
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", email):
        raise UserError(f"--email {email}: not an e-mail address")
    with one_line():
        sns = session.client("sns", region_name=REGION)
        topic = sns.create_topic(Name=_called(name), Tags=[{"Key": TAG, "Value": name}])["TopicArn"]
        if email not in _emails(sns, topic):
            sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=email)
        session.client("cloudwatch", region_name=REGION).put_metric_alarm(
            AlarmName=_called(name),
            AlarmDescription=f"kwela {name}: the account's charges this month passed ${dollars:,.2f}",
            Namespace="AWS/Billing",
            MetricName="EstimatedCharges",
            Dimensions=[{"Name": "Currency", "Value": "USD"}],
            Statistic="Maximum",
            Period=PERIOD,
            EvaluationPeriods=1,
            Threshold=dollars,
            ComparisonOperator="GreaterThanThreshold",
            AlarmActions=[topic],
        )
        _mail_stops(session, name, sns, topic)
    return look(session, name)


def mails_stops(session: Any, name: str) -> bool:
    """Whether the alarm's topic also hears of us-east-1's instances that stop."""
    with one_line():
        rules = session.client("events", region_name=REGION).list_rules(NamePrefix=_called(name))["Rules"]
    return any(rule["Name"] == _called(name) and rule["State"] == "ENABLED" for rule in rules)


def _mail_stops(session: Any, name: str, sns: Any, topic: str) -> None:
    """Send the stops of us-east-1's instances to the topic.

    EventBridge publishes by the topic's policy, and no condition on aws:SourceAccount is met by it. That policy is set
    as a whole: ours is added to what it says, at first the default by which the account's own may publish.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    policy = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    others = [each for each in policy["Statement"] if each.get("Sid") != SENDERS]
    ours = {
        "Sid": SENDERS,
        "Effect": "Allow",
        "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]},
        "Action": "sns:Publish",
        "Resource": topic,
    }
    policy["Statement"] = [*others, ours]
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    events = session.client("events", region_name=REGION)
    what = f"kwela {name}: an instance of this region stops or is terminated"
    events.put_rule(Name=_called(name), EventPattern=json.dumps(STOPS), State="ENABLED", Description=what)
    said = {
        "InputPathsMap": {"instance": "$.detail.instance-id", "state": "$.detail.state", "time": "$.time"},
        "InputTemplate": '"kwela: instance <instance> is <state>, <time>; kwela aws status says how it stands"',
    }
    answer = events.put_targets(
        Rule=_called(name), Targets=[{"Id": "topic", "Arn": topic, "InputTransformer": said}]
    )
    if answer["FailedEntryCount"]:
        raise KwelaError(f"AWS refused PutTargets: {answer['FailedEntries'][0].get('ErrorMessage')}")


def _called(name: str) -> str:
    return f"kwela-billing-{name}"


def _emails(sns: Any, topic: str) -> dict[str, bool]:
    """Address -> confirmed. AWS gives a subscription that isn't confirmed an ARN that is none."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [each for page in pages for each in page["Subscriptions"] if each["Protocol"] == "email"]
    return {each["Endpoint"]: each["SubscriptionArn"].startswith("arn:") for each in found}
