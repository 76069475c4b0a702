"""`kwela aws`: the commands for a rented machine on AWS, and the alarm on the account's charges."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kwela.cli.output import Json, speaking
from kwela.cli.rental import DEFAULT_NAME, Name, Profile, rental_app
from kwela.errors import UserError
from kwela.machines.provider import Alarm

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
