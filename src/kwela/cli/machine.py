"""Commands about machines: `doctor` for this one, `aws` for a rented one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from kwela.cli.aws import aws_app
from kwela.cli.output import Json, speaking
from kwela.errors import KwelaError


def register(app: typer.Typer) -> None:
    app.command("doctor", short_help="What this machine has, and what would fail on it.")(doctor)
    app.add_typer(aws_app, name="aws")


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Skip what starts other programs.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine has and which commands would fail without what it lacks.

    Exit status 1 where no training could start: the Docker image's health check.

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
    if faults := list(_faults()):
        raise KwelaError(f"no training can start here: {'; '.join(faults)}")


def _faults() -> Iterator[str]:
    """Why no training could start here. A GPU is a must only where KWELA_NEEDS_GPU is set, as in the CUDA image."""
    from kwela import config

    root = config.repo_root()
    if not os.access(root, os.W_OK):
        yield f"{root} is not writable"
    try:
        import torch
    except (ImportError, OSError) as error:  # a missing library of the system's is an OSError
        yield f"torch can't be imported ({str(error).splitlines()[0]})"
        return
    if os.environ.get("KWELA_NEEDS_GPU") and not torch.cuda.is_available():
        yield "torch sees no GPU"
