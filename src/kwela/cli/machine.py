"""Commands about this machine: `doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kwela.cli.output import Json, speaking


def register(app: typer.Typer) -> None:
    app.command("doctor", short_help="What this machine has, and what would fail on it.")(doctor)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Skip what starts other programs.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine has and which commands would fail without what it lacks.

    \b
    kwela doctor
    """
    from kwela.machines import doctor as examination

    with speaking(as_json) as say:
        checks = examination.examine(quick=quick)
        lines = [
            f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}" + ("" if check.ok else f"\n    {check.fix}")
            for check in checks
        ]
        say({"checks": [asdict(check) for check in checks]}, "\n".join(lines))
