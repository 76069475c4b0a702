"""Set up the account's billing alarm and the e-mails about it and about instances that stop (an SNS topic).

AWS counts the charges of every region in us-east-1, several times a day and hours late: the alarm informs a
person and can't stop a run. The account must have billing alerts switched on once, in the console (Billing,
Preferences, "Receive CloudWatch billing alerts"). No API does that.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html

An EventBridge rule reports a stop within about a minute. A rule sees the instances of its own region and
sends to that region's topics. The topic belongs to the alarm, so only the instances of us-east-1 are
reported. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html
"""

from __future__ import annotations

import json
import re
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws.instance import TAG
from kwela.machines.aws.prices import REGION
from kwela.machines.aws.session import one_line
from kwela.machines.provider import Alarm

PERIOD = 6 * 3600  # seconds: how often charges are counted
STOPS = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Instance State-change Notification"],
    "detail": {"state": ["stopping", "stopped", "terminated"]},
}
SENDERS = "kwela-senders"  # the id of this module's statement in the topic's policy


def look(session: Any, name: str) -> Alarm:
    """Return the alarm of that name."""
    with one_line():
        alarms = session.client("cloudwatch", region_name=REGION).describe_alarms(
            AlarmNames=[_alarm_name(name)]
        )
        sns = session.client("sns", region_name=REGION)
        topics = [
            t["TopicArn"] for page in sns.get_paginator("list_topics").paginate() for t in page["Topics"]
        ]
        topic = next((arn for arn in topics if arn.endswith(f":{_alarm_name(name)}")), None)
        emails = _emails(sns, topic) if topic else {}
    if not alarms["MetricAlarms"]:
        return Alarm(None, "", emails, topic)
    alarm = alarms["MetricAlarms"][0]
    return Alarm(alarm["Threshold"], alarm["StateValue"], emails, topic)


def set_up(session: Any, name: str, email: str, dollars: float) -> Alarm:
    """Make or change the alarm at `dollars` a month, and subscribe `email` unless it is subscribed.

    AWS then writes to the address. It gets no alarms before its owner has followed the link in that letter.
    Raises UserError for what is not an address.
    """
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", email):
        raise UserError(f"--email {email}: not an e-mail address")
    with one_line():
        sns = session.client("sns", region_name=REGION)
        topic = sns.create_topic(Name=_alarm_name(name), Tags=[{"Key": TAG, "Value": name}])["TopicArn"]
        if email not in _emails(sns, topic):
            sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=email)
        session.client("cloudwatch", region_name=REGION).put_metric_alarm(
            AlarmName=_alarm_name(name),
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
    """Return whether the alarm's topic also reports the instances of us-east-1 that stop."""
    with one_line():
        rules = session.client("events", region_name=REGION).list_rules(NamePrefix=_alarm_name(name))["Rules"]
    return any(rule["Name"] == _alarm_name(name) and rule["State"] == "ENABLED" for rule in rules)


def _mail_stops(session: Any, name: str, sns: Any, topic: str) -> None:
    """Send the stops of us-east-1's instances to the topic.

    The topic's policy must let EventBridge publish, which meets no condition on aws:SourceAccount. AWS sets a
    policy as a whole, so a statement is added to those that the topic has (at first a default for the account
    itself). https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    policy = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    others = [each for each in policy["Statement"] if each.get("Sid") != SENDERS]
    senders = {
        "Sid": SENDERS,
        "Effect": "Allow",
        "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]},
        "Action": "sns:Publish",
        "Resource": topic,
    }
    policy["Statement"] = [*others, senders]
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    events = session.client("events", region_name=REGION)
    description = f"kwela {name}: an instance of this region stops or is terminated"
    events.put_rule(
        Name=_alarm_name(name), EventPattern=json.dumps(STOPS), State="ENABLED", Description=description
    )
    letter = {
        "InputPathsMap": {"instance": "$.detail.instance-id", "state": "$.detail.state", "time": "$.time"},
        "InputTemplate": (
            '"kwela: instance <instance> is <state>, <time>; kwela aws status says how it stands"'
        ),
    }
    answer = events.put_targets(
        Rule=_alarm_name(name), Targets=[{"Id": "topic", "Arn": topic, "InputTransformer": letter}]
    )
    if answer["FailedEntryCount"]:
        raise KwelaError(f"AWS refused PutTargets: {answer['FailedEntries'][0].get('ErrorMessage')}")


def _alarm_name(name: str) -> str:
    return f"kwela-billing-{name}"


def _emails(sns: Any, topic: str) -> dict[str, bool]:
    """Return address -> whether it is confirmed. An unconfirmed subscription has a text for an ARN."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    letters = [each for page in pages for each in page["Subscriptions"] if each["Protocol"] == "email"]
    return {each["Endpoint"]: each["SubscriptionArn"].startswith("arn:") for each in letters}
