"""The account's billing alarm, and the e-mail that it sends: a CloudWatch alarm on an SNS topic.

AWS counts charges in us-east-1 only, whatever the region they arise in, several times a day and hours late: the alarm
tells a person, it can't stop a run. The account must have billing alerts switched on once, in the console (Billing,
Preferences, "Receive CloudWatch billing alerts"); no API does that.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/monitor_estimated_charges_with_cloudwatch.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kwela.errors import UserError
from kwela.machines.aws import TAG, one_line
from kwela.machines.prices import REGION

PERIOD = 6 * 3600  # seconds: how often charges are counted


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
        topics = [t["TopicArn"] for page in sns.get_paginator("list_topics").paginate() for t in page["Topics"]]
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
    return look(session, name)


def _called(name: str) -> str:
    return f"kwela-billing-{name}"


def _emails(sns: Any, topic: str) -> dict[str, bool]:
    """Address -> confirmed. AWS gives a subscription that isn't confirmed an ARN that is none."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [each for page in pages for each in page["Subscriptions"] if each["Protocol"] == "email"]
    return {each["Endpoint"]: each["SubscriptionArn"].startswith("arn:") for each in found}
