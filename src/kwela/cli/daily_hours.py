"""Check the options of `kwela aws schedule`, and compare its hours with those that the campaign plans."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from kwela.errors import UserError

LEAST, MOST = 0.5, 23.5  # hours a day
PLAN_DAYS = 56.0  # the playbook's, where there is no config


def checked(
    hours: float, stop_at: str, zone: str | None, until: str | None
) -> tuple[float, str, str, datetime]:
    """Return hours, stop ("HH:MM"), zone and the moment of the end. Raises UserError naming the option."""
    if not LEAST <= hours <= MOST:
        raise UserError(f"--hours {hours:g}: from {LEAST:g} to {MOST:g} a day (--off lets it run all day)")
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", stop_at)
    if not found or int(found[1]) > 23 or int(found[2]) > 59:
        raise UserError(f"--stop-at {stop_at}: a time of day, such as 02:00")
    name = zone or this_computers_zone()
    try:
        there = UTC if name == "UTC" else ZoneInfo(name)  # a small system may know no zones
    except (ValueError, OSError, LookupError):
        raise UserError(f"--zone {name}: no such time zone (such as UTC, Africa/Johannesburg)") from None
    if until is None:
        last = datetime.now(there).date() + timedelta(days=_plan()[1])
    else:
        try:
            last = date.fromisoformat(until)
        except ValueError:
            raise UserError(f"--until {until}: not a day (such as 2027-01-31)") from None
    end = datetime.combine(last, time(23, 59), there)
    if end <= datetime.now(UTC):
        raise UserError(f"--until {until}: is past")
    return hours, f"{int(found[1]):02d}:{found[2]}", name, end


def differences(hours: float | None) -> Iterator[str]:
    """Yield a line where the schedule's hours a day are not those that the shipped config plans with."""
    planned, _ = _plan()
    if planned is not None and hours is not None and abs(planned - hours) > 0.01:
        yield (
            f"  hours_per_day in ai-service/config.json is {planned:g}: set it to {hours:g}, so that "
            "kwela campaign plan and simulate count the same"
        )


def this_computers_zone() -> str:
    """Return the name of this computer's time zone, UTC where it has none."""
    if named := os.environ.get("TZ", "").removeprefix(":"):
        return named
    place = os.path.realpath("/etc/localtime")
    _, found, name = place.partition("/zoneinfo/")
    return name if found and Path(place).exists() else "UTC"


def _plan() -> tuple[float | None, float]:
    """Return the shipped config's hours a day and days of the plan."""
    from kwela import config, playbook

    file = config.repo_root() / playbook.SHIPPED
    if not file.is_file():
        return None, PLAN_DAYS
    try:
        settings = playbook.load(file)
    except UserError:  # the campaign's commands say what is wrong with it
        return None, PLAN_DAYS
    return settings.hours_per_day, settings.plan_days
