"""Commands about machines: `doctor` and `idle-watch` for this one, a group a cloud for a rented one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela import terminal
from kwela.cli.aws import aws_app
from kwela.cli.output import Json, speaking
from kwela.cli.rental import rental_app
from kwela.errors import KwelaError, UserError
from kwela.machines.provider import PROVIDERS

if TYPE_CHECKING:
    from kwela.machines.idle import Watch


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("doctor", short_help="What this machine has, and what would fail on it.")(doctor)
    app.command("idle-watch", short_help="Stop this machine when nobody has used it for two hours.")(
        idle_watch
    )
    for cloud in PROVIDERS:
        app.add_typer(aws_app if cloud == "aws" else rental_app(cloud), name=cloud)


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
            f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}"
            + ("" if check.ok else f"\n    {check.fix}")
            for check in checks
        ]
        say({"checks": [asdict(check) for check in checks]}, "\n".join(lines))
    if faults := list(_faults()):
        raise KwelaError(f"no training can start here: {'; '.join(faults)}")


def idle_watch(
    hours: Annotated[float, typer.Option(min=0.1, help="Of quiet, until it stops.")] = 2.0,
    warn_minutes: Annotated[float, typer.Option(min=0, help="How long before it warns.")] = 15.0,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="Checkpoints; default: the repo's.")
    ] = None,
    ssh_ports: Annotated[list[int], typer.Option("--ssh-port", help="Where a connection is a session.")] = [  # noqa: B006
        22
    ],
    ports: Annotated[list[int], typer.Option("--port", help="Where it is a request.")] = [6006],  # noqa: B006
    request_logs: Annotated[
        list[Path] | None, typer.Option("--request-log", help="An access log; default: TensorBoard's.")
    ] = None,
    shutdown: Annotated[str, typer.Option(help="The command that stops it.")] = "shutdown -h now",
    log: Annotated[Path, typer.Option(help="What it did, and why.")] = Path("/var/log/auto-shutdown.log"),
    state: Annotated[Path, typer.Option(help="Kept between looks.")] = Path("/var/lib/kwela/idle-watch.json"),
    every: Annotated[
        float | None, typer.Option(min=1, help="Seconds: go on looking; default: look once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look once whether this machine is in use, and stop it after two hours without use.

    Use is a training step, a kwela command that works, a busy GPU, an SSH session or a request. A systemd
    timer looks once a minute (ai-service/deploy_training.sh installs it); without systemd, --every 60 does.
    It warns 15 minutes ahead and never stops in the middle of a save.

    \b
    kwela idle-watch
    kwela idle-watch --every 60 --shutdown "sudo shutdown -h now" --log ~/shutdown.log --state ~/idle.json
    """
    from kwela import config
    from kwela.machines import idle

    if warn_minutes >= 60 * hours:
        raise UserError(f"--warn-minutes {warn_minutes:g}: not less than --hours {hours:g}")
    root = config.repo_root()
    watch = idle.Watch(
        folders=folders or [root / "ai-service" / "checkpoints", root / "checkpoints"],
        log=log,
        state=state,
        limit=hours * 3600,
        warn=warn_minutes * 60,
        shutdown=shutdown,
        ssh=ssh_ports,
        requests=ports,
        request_logs=request_logs or [root / "ai-service" / "training_logs" / "requests.log"],
    )
    _look_repeatedly(watch, every, as_json)


def _look_repeatedly(watch: Watch, every: float | None, as_json: bool) -> None:
    """Look every `every` seconds and say what was seen. None: look once."""
    from kwela.machines import idle

    with speaking(as_json) as say:
        last = None
        while True:
            try:
                last = idle.look(watch, last)
                left = max(0.0, watch.limit - last.idle)
                quiet = f"idle for {last.idle / 60:.0f} min; stops in {left / 60:.0f} min"
                result = {"busy": last.busy, "idle_seconds": last.idle, "stops_in_seconds": left}
                say(result, f"in use: {last.busy}" if last.busy else quiet)
            except (KwelaError, OSError) as error:  # OSError: a full disk, where stdout is a file
                if every is None or isinstance(error, UserError):
                    raise
                with suppress(OSError):
                    terminal.say(f"kwela idle-watch: {error}", sys.stderr)
            if every is None:
                return
            time.sleep(every)


def _faults() -> Iterator[str]:
    """Yield each reason why no training can start here.

    A GPU is needed only where KWELA_NEEDS_GPU is set, as in the CUDA image.
    """
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
