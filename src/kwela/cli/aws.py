"""`kwela aws`: the commands for a rented machine on AWS, and the alarm on the account's charges."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kwela.cli import daily_hours
from kwela.cli.output import Json, speaking
from kwela.cli.rental import AccountOptions, Name, Profile, rental_app, with_account_options
from kwela.errors import UserError
from kwela.machines.provider import DEFAULT_NAME, Alarm

aws_app = rental_app("aws")


@aws_app.command("alarm")
def alarm(
    email: Annotated[
        str | None, typer.Option(help="Who is told; without it, say how the alarm stands.")
    ] = None,
    dollars: Annotated[float, typer.Option(min=1, help="The account's charges in a month.")] = 600,
    name: Name = DEFAULT_NAME,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Make or show a billing alarm at $600, by e-mail, and a letter when an instance stops.

    The alarm is hours late: what stops a run in time is its own budget.

    \b
    kwela aws alarm --email you@example.com
    """
    from kwela.machines.aws import alarm as billing
    from kwela.machines.aws.session import open_session

    with speaking(as_json) as say:
        session = open_session(profile=profile)
        current = billing.set_up(session, name, email, dollars) if email else billing.look(session, name)
        if current.dollars is None:
            raise UserError("no billing alarm yet: kwela aws alarm --email you@example.com makes one")
        mails_stops = billing.mails_stops(session, name)
        facts = {**asdict(current), "ready": current.ready, "mails_stops": mails_stops}
        say(facts, "\n".join(_alarm_lines(current, current.dollars, mails_stops)))


def _alarm_lines(alarm: Alarm, dollars: float, mails_stops: bool) -> list[str]:
    from kwela.machines.aws.prices import REGION

    lines = [f"Billing alarm at ${dollars:,.2f} a month ({alarm.state})"]
    for address, confirmed in alarm.emails.items():
        state = "confirmed" if confirmed else "NOT CONFIRMED: follow the link that AWS mailed"
        lines.append(f"  {address}: {state}")
    if alarm.topic:
        lines.append(f"  topic {alarm.topic} (a campaign's notify.sns_topic may be the same)")
    if mails_stops:
        lines.append(f"  mails too when an instance of {REGION} stops; of another region's it doesn't hear")
    else:
        lines.append("  nobody is told when an instance stops: kwela aws alarm --email you@example.com")
    if alarm.state == "INSUFFICIENT_DATA":
        lines.append(
            "  No charges counted yet. Is Billing > Preferences > CloudWatch billing alerts switched on?"
        )
    return lines


def schedule(
    *,
    hours: Annotated[float | None, typer.Option(help="A day in which it runs, such as 20.")] = None,
    stop_at: Annotated[str, typer.Option(help="When it stops, as HH:MM.")] = "02:00",
    zone: Annotated[
        str | None, typer.Option(help="Whose hours, such as Africa/Johannesburg; default: this computer's.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="The last day, as YYYY-MM-DD; default: plan_days from now.")
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="An IAM role by its name; default: kwela-scheduler, made if missing.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Remove it: the instance stays as it is.")] = False,
    account: AccountOptions,
) -> None:
    """Stop the instance in the idle hours of each day and start it again; without options, say what is set.

    The campaign saves when the instance stops. It goes on by itself after the start if deploy_training.sh
    was run with --resume-at-boot.

    \b
    kwela aws schedule --hours 20
    kwela aws schedule --hours 20 --stop-at 01:30 --zone Africa/Johannesburg
    kwela aws schedule --off
    """
    from kwela.machines.aws import instance
    from kwela.machines.aws import schedule as schedules
    from kwela.machines.aws.session import open_session

    if off and hours is not None:
        raise UserError("kwela aws schedule: --hours with --off: choose one")
    with speaking(account.as_json) as say:
        session = open_session(account.region, account.profile)
        options = instance.options(session, account.name)
        if off:
            removed = schedules.remove(session, account.name)
            text = f"{account.name}: {'the schedule is removed' if removed else 'there is no schedule'}"
            say({"name": account.name, "schedule": None, "removed": removed}, text)
            return
        if hours is None:
            found = schedules.look(session, account.name)
        else:
            wanted = daily_hours.checked(hours, stop_at, zone, until)
            machine = instance.existing(session, account.name)
            found = schedules.set_up(session, machine, *wanted, role)
        facts = {"name": account.name, "schedule": found.facts() if found else None}
        none = f"no schedule: it runs 24 h a day (kwela aws schedule{options} --hours 20 sets one)"
        lines = [f"{account.name}: {found.text(options) if found else none}"]
        say(facts, "\n".join([*lines, *daily_hours.differences(found.hours if found else None)]))


aws_app.command("schedule")(with_account_options(schedule))
