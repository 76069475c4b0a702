"""Stop and start an instance at fixed hours of the day, by two schedules of EventBridge Scheduler.

Each schedule calls EC2 itself (a universal target), in a role that may start and stop the instances with the
tag `kwela` and nothing else. https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html

The stop is made before the start, and the start is removed before the stop. So what a failure leaves half
done stops the machine, and never starts it.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kwela.errors import KwelaError, UserError
from kwela.machines.aws import instance
from kwela.machines.aws.instance import TAG
from kwela.machines.aws.session import one_line
from kwela.machines.provider import Machine, Remain

ROLE = "kwela-scheduler"
# deployment/aws/scheduler-trust.json and scheduler.json hold the same, for whoever makes the role by hand.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "StopAndStartWhatHasTheTag",
            "Effect": "Allow",
            "Action": ["ec2:StartInstances", "ec2:StopInstances"],
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringLike": {f"aws:ResourceTag/{TAG}": "*"}},
        }
    ],
}
MINUTES_A_DAY = 24 * 60
RETRY_SECONDS = 3600  # for how long a call that fails (no spot capacity) is tried again
ROLE_SECONDS = 30.0  # until a new role is known everywhere
CALLS = {"stop": "stopInstances", "start": "startInstances"}


@dataclass(frozen=True)
class Schedule:
    """When an instance is stopped and started, each day. Times are "HH:MM" in `zone`, None if not set."""

    instance: str
    stop: str | None
    start: str | None
    zone: str
    until: str | None  # the last day, as "YYYY-MM-DD"

    @property
    def hours(self) -> float | None:
        """The hours a day in which the machine runs; None unless both times are set."""
        if self.stop is None or self.start is None:
            return None
        off = (_minutes(self.start) - _minutes(self.stop)) % MINUTES_A_DAY
        return round((MINUTES_A_DAY - off) / 60, 2)

    def facts(self) -> dict[str, Any]:
        """Return the schedule for `--json`."""
        return {**vars(self), "hours": self.hours}

    def text(self, name_options: str = "", machine: Machine | None = None) -> str:
        """Return a line for a reader. name_options: of a command that finds the machine."""
        times = [f"{verb} at {when}" for verb, when in (("stops", self.stop), ("starts", self.start)) if when]
        hours = f"{self.hours:g} h a day" if self.hours is not None else "only half of it is set"
        until = f", until {self.until}" if self.until else ""
        text = f"schedule: {', '.join(times)} ({self.zone}), {hours}{until}"
        if machine is not None and machine.id != self.instance:
            return f"{text}, but for {self.instance}: kwela aws schedule{name_options} --hours N sets it anew"
        return f"{text}; kwela aws schedule{name_options} --off ends it"


def set_up(
    session: Any, machine: Machine, hours: float, stop: str, zone: str, until: datetime, role: str | None
) -> Schedule:
    """Stop the instance each day at `stop` ("HH:MM" in `zone`) and start it so that it runs for `hours`.

    until: after it nothing is called any more. role: its name; None: ROLE, which is made if it isn't there.
    Raises UserError where the role is missing and may not be made.
    """
    minutes = _minutes(stop)
    start = _clock(minutes + round((24 - hours) * 60))
    arn, is_new = _role(session, role)
    for action, when in (("stop", _clock(minutes)), ("start", start)):
        _put(session, machine, action, when, zone, until, arn, ROLE_SECONDS if is_new else 0.0)
    found = look(session, machine.name)
    assert found is not None
    return found


def look(session: Any, name: str) -> Schedule | None:
    """Return the schedule of that name's machine; None where there is none."""
    found = {action: _get(session, name, action) for action in CALLS}
    known = next((each for each in found.values() if each), None)
    if known is None:
        return None
    times = {action: _time(each["ScheduleExpression"]) if each else None for action, each in found.items()}
    end = known.get("EndDate")
    until = end.astimezone(UTC).date().isoformat() if end else None
    which = json.loads(known["Target"]["Input"])["InstanceIds"][0]
    return Schedule(
        which, times["stop"], times["start"], known.get("ScheduleExpressionTimezone", "UTC"), until
    )


def remove(session: Any, name: str) -> bool:
    """Remove the schedule. Returns whether there was one."""
    client = session.client("scheduler")
    found = [action for action in ("start", "stop") if _get(session, name, action)]
    for action in found:
        with one_line():
            client.delete_schedule(Name=_schedule_name(name, action))
    return bool(found)


def remains(session: Any, name: str, machine: Machine | None) -> list[Remain]:
    """Return the schedule of a machine that is no more."""
    try:
        found = look(session, name)
    except UserError as error:
        return [Remain("unknown", "schedule", None, f"schedules were not looked for: {error}", "")]
    if found is None or machine is not None:
        return []
    end = f"kwela aws schedule{instance.options(session, name)} --off"
    return [Remain("schedule", _schedule_name(name, "start"), None, f"a schedule of {found.instance}", end)]


def _schedule_name(name: str, action: str) -> str:
    return f"kwela-{name}-{action}"


def _get(session: Any, name: str, action: str) -> dict[str, Any] | None:
    with one_line():
        client = session.client("scheduler")
        try:
            return dict(client.get_schedule(Name=_schedule_name(name, action)))
        except client.exceptions.ResourceNotFoundException:
            return None


def _put(
    session: Any,
    machine: Machine,
    action: str,
    when: str,
    zone: str,
    until: datetime,
    role: str,
    patience: float,
) -> None:
    """Make or change one schedule. patience: seconds in which Scheduler may not know the role yet."""
    hour, minute = when.split(":")
    wanted = {
        "Name": _schedule_name(machine.name, action),
        "Description": f"kwela {machine.name}: {action} the instance each day",
        "ScheduleExpression": f"cron({int(minute)} {int(hour)} * * ? *)",
        "ScheduleExpressionTimezone": zone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "EndDate": until,
        "Target": {
            "Arn": f"arn:{_partition(session)}:scheduler:::aws-sdk:ec2:{CALLS[action]}",
            "RoleArn": role,
            "Input": json.dumps({"InstanceIds": [machine.id]}),
            "RetryPolicy": {"MaximumEventAgeInSeconds": RETRY_SECONDS, "MaximumRetryAttempts": 60},
        },
    }
    client = session.client("scheduler")
    call = client.update_schedule if _get(session, machine.name, action) else client.create_schedule
    deadline = time.monotonic() + patience
    while True:
        try:
            with one_line():
                call(**wanted)
            return
        except KwelaError as error:
            if "role" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2.0)


def _role(session: Any, name: str | None) -> tuple[str, bool]:
    """Return the ARN of the role in which the schedules call EC2, and whether it was made just now."""
    with one_line():
        iam = session.client("iam")
        try:
            return str(iam.get_role(RoleName=name or ROLE)["Role"]["Arn"]), False
        except iam.exceptions.NoSuchEntityException:
            if name:
                raise UserError(f"--role {name}: no such role; without --role kwela makes {ROLE}") from None
    try:
        with one_line():
            made = iam.create_role(
                RoleName=ROLE,
                AssumeRolePolicyDocument=json.dumps(TRUST),
                Description="kwela aws schedule: EventBridge Scheduler stops and starts tagged instances",
            )
            iam.put_role_policy(RoleName=ROLE, PolicyName="kwela", PolicyDocument=json.dumps(POLICY))
    except KwelaError as error:
        raise UserError(
            f"the role {ROLE} can't be made ({error}): somebody with rights over IAM makes it once, from "
            "scheduler-trust.json and scheduler.json in deployment/aws (docs/machines.md); or use --role"
        ) from error
    return str(made["Role"]["Arn"]), True


def _partition(session: Any) -> str:
    return str(session.get_partition_for_region(session.region_name))


def _minutes(when: str) -> int:
    hour, minute = when.split(":")
    return int(hour) * 60 + int(minute)


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _time(expression: str) -> str | None:
    """Return the "HH:MM" of a daily cron expression; None if somebody has changed it into another kind."""
    found = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", expression)
    return f"{int(found[2]):02d}:{int(found[1]):02d}" if found else None
