"""`kwela campaign`: a fine-tune of weeks inside a budget. The commands that it runs are put together here."""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela import terminal
from kwela.cli.output import Json, speaking
from kwela.errors import BudgetSpent, KwelaError, NoGo, UserError

if TYPE_CHECKING:
    from kwela.campaign.run.evaluation import Commands
    from kwela.campaign.run.orchestrator import Surroundings
    from kwela.playbook import PlaybookConfig

campaign_app = typer.Typer(
    help="A fine-tune of weeks inside a budget.", no_args_is_help=True, rich_markup_mode=None
)

Config = Annotated[Path | None, typer.Option(help="JSON; default: ai-service/config.json.")]
Preset = Annotated[str | None, typer.Option(help="Of the training: tiny, for a rehearsal.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="a.b=value, of the training.")]
Rehearsal = Annotated[
    bool, typer.Option("--rehearsal", help="Of run --speed, which has a folder of its own.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda; default: the best there is.")]


def register(app: typer.Typer) -> None:
    app.add_typer(campaign_app, name="campaign")


@campaign_app.command("check")
def check(
    config: Config = None,
    confirm: Annotated[list[str] | None, typer.Option(help="Answer yes to a question, by its name.")] = None,
    mbps: Annotated[float | None, typer.Option(min=0.01, max=1e6, help="Of the network, in Mbit/s.")] = None,
    name: Annotated[str, typer.Option(help="The instance's, as kwela aws has it.")] = "phase-2-5",
    region: Annotated[str | None, typer.Option(help="Default: as the AWS CLI finds it.")] = None,
    as_json: Json = False,
) -> None:
    """The playbook's pre-flight and readiness lists in one table. Exit status 1 if anything fails.

    \b
    kwela campaign check
    kwela campaign check --mbps 50 --confirm approval --confirm no-go-plan
    """
    from dataclasses import asdict

    from kwela.campaign.run import readiness

    settings, file = _settings(config)
    if unknown := set(confirm or []) - set(readiness.QUESTIONS):
        raise UserError(
            f"--confirm {min(unknown)}: no such question (there are {', '.join(readiness.QUESTIONS)})"
        )
    with speaking(as_json) as say:
        if confirm:
            readiness.confirm(settings, confirm, getpass.getuser())
        found = readiness.items(settings, file.parent, name, region, mbps)
        say({"checks": [asdict(item) for item in found]}, readiness.table(found))
    if failed := [item.name for item in found if item.state == readiness.FAIL]:
        raise KwelaError(f"not ready: {', '.join(failed)}")


@campaign_app.command("plan")
def plan(
    config: Config = None,
    throughput: Annotated[
        float | None, typer.Option(min=1e-6, max=1e6, help="Clips a second that the GPU trains on.")
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Measure it here: 20 steps.")] = False,
    preset: Preset = None,
    overrides: Set = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Hours and dollars before any is spent: on demand, spot, spot with idle hours, at two price lists.

    Without --throughput or --probe, hours are the playbook's days.

    \b
    kwela campaign plan
    kwela campaign plan --probe
    kwela campaign plan --throughput 2.5
    """
    from kwela.campaign.money import plan as planning
    from kwela.campaign.run import state

    if throughput is not None and probe:
        raise UserError("kwela campaign plan: --throughput with --probe: choose one")
    settings, file = _settings(config)
    with speaking(as_json) as say:
        clips = state.clips(settings)
        if throughput is not None:
            work = planning.workload_at_speed(settings, clips, throughput)
        elif probe:
            said = _probe(_train(file, preset, overrides, device))
            work = planning.workload_of_hours(said["hours"], "a probe of this machine", int(said["steps"]))
        else:
            work = planning.Workload(None, f"the plan of {settings.plan_days:g} days (nothing was measured)")
        made = planning.make_plan(settings, work, clips)
        say(made.to_dict(), planning.plan_text(made, settings))


@campaign_app.command("run")
def run(
    config: Config = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on; what there is to go on from is found anyway.")
    ] = False,
    gate_now: Annotated[bool, typer.Option("--gate-now", help="Hold the Go/No-Go gate at once.")] = False,
    override: Annotated[
        str, typer.Option(help="Go on against a HOLD or NO-GO, for this reason; recorded.")
    ] = "",
    unattended: Annotated[
        bool, typer.Option("--unattended", help="Nobody is there: what stopped for a person stays stopped.")
    ] = False,
    preset: Preset = None,
    overrides: Set = None,
    device: Device = None,
    speed: Annotated[
        float, typer.Option(min=1, max=1e7, help="Rehearse: a clock so many times as fast.")
    ] = 1.0,
) -> None:
    """Train for weeks: resumes by itself, stops before the budget is overspent, holds the gate, ends with a report.

    Exit status: 3 NO-GO, 4 budget spent, 5 HOLD, 75 interrupted; each with a checkpoint.

    \b
    kwela campaign run --config ai-service/config.json
    kwela campaign run --resume --gate-now
    kwela campaign run --preset tiny --speed 100000
    """
    from kwela.campaign.money.clock import MachineClock
    from kwela.campaign.run.orchestrator import Campaign
    from kwela.cli import musicgen

    settings, file = _settings(config, rehearsal=speed != 1)
    tuned = musicgen.settings(config, preset, overrides or [])[0].model.base
    if preset or overrides:  # which may choose another model
        settings.model_name = tuned
    _begin(settings, tuned, resume)
    around = _surroundings(settings, file.parent)
    commands = _commands(settings, file, preset, overrides, device)
    try:
        Campaign(settings, commands, MachineClock(speed), around, speed).run(
            gate_now=gate_now, override=override, unattended=unattended
        )
    except (NoGo, BudgetSpent):
        _report_after(settings)
        raise
    _report_after(settings)


@campaign_app.command("status")
def status(
    config: Config = None,
    rehearsal: Rehearsal = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every five seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Where a campaign stands: progress, loss, GPU, dollars, forecast, flags, days to the gate.

    \b
    kwela campaign status --watch
    """
    from kwela.campaign.money import ledger
    from kwela.campaign.report import status as standing

    settings, _ = _settings(config, rehearsal)
    folder = settings.checkpoint_dir
    if not (folder / ledger.NAME).is_file():
        raise UserError(f"{folder}: no campaign here yet (kwela campaign run starts one)")
    if not watch:
        with speaking(as_json) as say:
            say(standing.facts(folder, settings), "" if as_json else standing.screen(folder, settings))
        return
    from rich.live import Live
    from rich.text import Text

    with contextlib.suppress(KeyboardInterrupt), Live(screen=sys.stdout.isatty(), auto_refresh=False) as live:
        while True:
            live.update(Text(standing.screen(folder, settings)), refresh=True)
            time.sleep(5)


@campaign_app.command("extend")
def extend(
    to: Annotated[float, typer.Option(min=0, max=1e9, help="The new budget, in dollars.")],
    config: Config = None,
    rehearsal: Rehearsal = False,
) -> None:
    """Agree to a larger budget; `kwela campaign run --resume` then goes on.

    \b
    kwela campaign extend --to 800
    """
    import filelock

    from kwela.campaign.money import costs, ledger, ledger_rows
    from kwela.campaign.money.clock import MachineClock
    from kwela.campaign.run import state
    from kwela.campaign.run.orchestrator import LOCK

    settings, _ = _settings(config, rehearsal)
    path = settings.checkpoint_dir / ledger.NAME
    if not path.is_file():
        raise UserError(f"{path.parent}: no campaign here yet: set budget_usd in its config instead")
    try:
        with filelock.FileLock(path.parent / LOCK, blocking=False):
            book = ledger.Ledger(path, MachineClock())
            if ledger_rows.campaign_row(book.rows) is None:
                raise UserError(
                    f"{path}: its first line is damaged: kwela campaign run mends it from a checkpoint"
                )
            before = costs.add_up(book.rows).budget_usd
            if not to > before:
                raise UserError(f"--to {to:g}: the budget is ${before:,.2f} already")
            book.record("budget", budget_usd=to, who=getpass.getuser())
    except filelock.Timeout:
        raise UserError(f"{path.parent}: an orchestrator is at work: stop it first (Ctrl-C saves)") from None
    stands = state.look(path.parent, settings).told
    print(f"Budget ${before:,.2f} → ${to:,.2f}; kwela campaign run --resume goes on (the gate: {stands})")


@campaign_app.command("simulate")
def simulate(
    config: Config = None,
    runs: Annotated[int, typer.Option(min=1, help="Campaigns.")] = 1000,
    market: Annotated[str, typer.Option(help="spot or on-demand.")] = "spot",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """The life of a campaign, thousands of times: cost, days, outcome; and what the playbook's figures exclude.

    \b
    kwela campaign simulate --runs 5000
    """
    from kwela.campaign.money import simulate as simulation

    if market not in ("spot", "on-demand"):
        raise UserError(f"--market {market}: spot or on-demand")
    settings, _ = _settings(config)
    with speaking(as_json) as say:
        result = simulation.simulate(settings, market, runs, seed)
        say(result, simulation.simulation_text(result))


@campaign_app.command("report")
def report(config: Config = None, rehearsal: Rehearsal = False, as_json: Json = False) -> None:
    """The campaign as Markdown, HTML and PDF, and its deliverables, each checked.

    \b
    kwela campaign report
    """
    from kwela.campaign.money import ledger
    from kwela.campaign.report import report as reporting

    settings, _ = _settings(config, rehearsal)
    if not (settings.checkpoint_dir / ledger.NAME).is_file():
        raise UserError(f"{settings.checkpoint_dir}: no campaign here yet (kwela campaign run starts one)")
    with speaking(as_json) as say:
        made = reporting.write(settings)
        say(made, "\n".join(reporting.lines(made)))


def _settings(config: Path | None, rehearsal: bool = False) -> tuple[PlaybookConfig, Path]:
    """The playbook's settings, and their file."""
    from kwela import playbook
    from kwela.campaign.run import state

    settings = playbook.load(config)
    if rehearsal:
        state.rehearse(settings)
    return settings, playbook.find(config).absolute()


def _begin(settings: PlaybookConfig, tuned: str, resume: bool) -> None:
    """What is looked at before the first day is counted. tuned: the base model. Raises UserError."""
    from kwela.campaign.money import ledger
    from kwela.campaign.run import state
    from kwela.cli import musicgen
    from kwela.musicgen import base

    folder, table = settings.checkpoint_dir, settings.dataset_dir / state.TABLE / "training_metadata.csv"
    if (folder / ledger.NAME).exists():
        return
    if any(folder.glob("*.pt")):
        if ledger.text_in_checkpoint(folder):
            return
        raise UserError(
            f"{folder}: a run that no campaign made: move it away, or take another checkpoint_dir"
        )
    if not table.is_file():
        raise UserError(f"{table}: no data set yet: python3 dataset_setup.py (kwela dataset --help) makes it")
    musicgen.need_extra()
    base.find(tuned, musicgen.stand_in())
    if resume:
        print(f"Nothing to resume in {folder}: starting", flush=True)


def _kwela(*words: str) -> list[str]:
    return [sys.executable, "-m", "kwela", *words]


def _train(file: Path, preset: str | None, overrides: list[str] | None, device: str | None) -> list[str]:
    given = [word for item in overrides or [] for word in ("--set", item)]
    chosen = [*(("--preset", preset) if preset else ()), *(("--device", device) if device else ())]
    return _kwela("train", "musicgen", "--config", str(file), *chosen, *given)


def _commands(
    settings: PlaybookConfig,
    file: Path,
    preset: str | None,
    overrides: list[str] | None,
    device: str | None,
) -> Commands:
    from kwela.campaign.money import ledger
    from kwela.campaign.run import state
    from kwela.campaign.run.evaluation import Commands

    folder, how = settings.checkpoint_dir, settings.evaluation
    on = ["--device", device] if device else []
    train = [
        *_train(file, preset, overrides, device),
        "--out",
        str(folder),
        "--ledger",
        str(folder / ledger.NAME),
    ]

    def sample(model: str, prompts: list[str], seed: int, out: Path, stream: bool) -> list[str]:
        if model == "base" and (preset or overrides):  # which may have chosen another than the config's
            model = settings.model_name
        said = [word for prompt in prompts for word in ("--prompt", prompt)]
        words = [
            "--model",
            model,
            *said,
            "--duration",
            str(how.seconds),
            "--seed",
            str(seed),
            "--out",
            str(out),
        ]
        return _kwela(
            "generate",
            "audio",
            *words,
            "--config",
            str(file),
            *on,
            *(["--stream"] if stream else []),
            "--json",
        )

    def authenticity(tuned: Path, base: Path, out: Path) -> list[str]:
        real = ["--reference", str(how.reference_dir), "--contrast", str(how.contrast_dir)]
        return _kwela(
            "judge",
            "authenticity",
            *real,
            "--samples",
            str(tuned),
            "--base",
            str(base),
            "--out",
            str(out),
            "--json",
        )

    def damage(tuned: Path, base: Path, model: Path, out: Path) -> list[str]:
        clips = settings.dataset_dir / state.TABLE / "audio"
        known = ["--training", str(clips)] if clips.is_dir() else []
        unseen = ["--unseen", str(how.contrast_dir), "--model", str(model)]
        return _kwela(
            "judge",
            "damage",
            "--tuned",
            str(tuned),
            "--base",
            str(base),
            *known,
            *unseen,
            "--out",
            str(out),
            "--json",
        )

    return Commands(train, sample, authenticity, damage)  # type: ignore[arg-type]


def _surroundings(settings: PlaybookConfig, home: Path) -> Surroundings:
    """What this machine is and has. On EC2 its own market is the one that is paid."""
    from kwela.campaign.run.orchestrator import Surroundings
    from kwela.machines import gpu
    from kwela.machines.aws import spot

    metadata = spot.Metadata()
    market = metadata.get("instance-life-cycle")
    if market in ("spot", "on-demand") and market != settings.market:
        print(f"This instance is {market}, whatever the config says", flush=True)
        settings.market = market  # type: ignore[assignment]
    instance = metadata.get("instance-id") if market else None
    log = home / "training_logs" / "training.log"
    return Surroundings(
        instance or platform.node(), gpu.utilisation, spot.watch, home, settings.tensorboard_dir, log
    )


def _probe(train: list[str]) -> dict[str, float]:
    """What `kwela train --estimate` measures."""
    done = subprocess.run([*train, "--estimate", "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise KwelaError(f"the probe failed with exit status {done.returncode}; see above")
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _report_after(settings: PlaybookConfig) -> None:
    """The report of a campaign that has ended; one that can't be written doesn't change how it ended."""
    from kwela.campaign.report import report as reporting

    try:
        made = reporting.write(settings)
        terminal.say("\n".join(reporting.lines(made)))
    except Exception as error:  # whatever it is: the exit status is the campaign's
        terminal.say(f"no report: {type(error).__name__}: {error}", sys.stderr)
