"""`kwela campaign`: plan, run and report a fine-tune of weeks inside a budget."""

from __future__ import annotations

import contextlib
import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kwela import terminal
from kwela.cli.campaign_commands import (
    TrainingOptions,
    campaign_commands,
    probe,
    report_after_the_end,
    this_environment,
)
from kwela.cli.output import Json, speaking
from kwela.errors import BudgetSpent, KwelaError, NoGo, UserError

if TYPE_CHECKING:
    from kwela.playbook import PlaybookConfig

campaign_app = typer.Typer(
    help="A fine-tune of weeks inside a budget.", no_args_is_help=True, rich_markup_mode=None
)

Config = Annotated[Path | None, typer.Option(help="A JSON file; default: ai-service/config.json.")]
Preset = Annotated[str | None, typer.Option(help="A preset of the training: tiny, for a rehearsal.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="a.b=value: a setting of the training.")]
Rehearsal = Annotated[bool, typer.Option("--rehearsal", help="Use the folder of a rehearsal (run --speed).")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")]
Confirm = Annotated[list[str] | None, typer.Option(help="Answer yes to a question, by its name.")]
Speed = Annotated[float, typer.Option(min=1, max=1e7, help="Rehearse with a clock so many times as fast.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.add_typer(campaign_app, name="campaign")


@campaign_app.command("check")
def check(
    config: Config = None,
    confirm: Confirm = None,
    mbps: Annotated[
        float | None, typer.Option(min=0.01, max=1e6, help="The network's speed, in Mbit/s.")
    ] = None,
    name: Annotated[str, typer.Option(help="The instance's name, as kwela aws has it.")] = "phase-2-5",
    region: Annotated[str | None, typer.Option(help="Default: as the AWS CLI finds it.")] = None,
    send_test: Annotated[
        bool, typer.Option("--try-notify", help="Send a test message to the receivers of notify.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the playbook's pre-flight and readiness lists. Exit status 1 if anything fails.

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
        if send_test:
            terminal.say("\n".join(readiness.try_notify(settings, getpass.getuser())))
        items = readiness.check_readiness(settings, file.parent, name, region, mbps)
        say({"checks": [asdict(item) for item in items]}, readiness.readiness_text(items))
    if failed := [item.name for item in items if item.state == readiness.FAIL]:
        raise KwelaError(f"not ready: {', '.join(failed)}")


@campaign_app.command("plan")
def plan(
    config: Config = None,
    throughput: Annotated[
        float | None, typer.Option(min=1e-6, max=1e6, help="Clips a second that the GPU trains on.")
    ] = None,
    measure: Annotated[bool, typer.Option("--probe", help="Measure it here: 20 steps.")] = False,
    preset: Preset = None,
    overrides: Set = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Work out hours and dollars before any is spent, at two price lists.

    Each has on-demand hours, spot hours, and spot hours with idle hours off.
    Without --throughput or --probe, hours are the playbook's days.

    \b
    kwela campaign plan
    kwela campaign plan --probe
    kwela campaign plan --throughput 2.5
    """
    from kwela.campaign.money import plan as planning
    from kwela.campaign.run.campaign_state import training_clips

    if throughput is not None and measure:
        raise UserError("kwela campaign plan: --throughput with --probe: choose one")
    settings, file = _settings(config)
    with speaking(as_json) as say:
        clips = training_clips(settings)
        if throughput is not None:
            workload = planning.workload_at_speed(settings, clips, throughput)
        elif measure:
            estimate = probe(TrainingOptions(file, preset, overrides or (), device))
            source, steps = "a probe of this machine", int(estimate["steps"])
            workload = planning.workload_of_hours(estimate["hours"], source, steps)
        else:
            source = f"the plan of {settings.plan_days:g} days (nothing was measured)"
            workload = planning.Workload(None, source)
        made = planning.make_plan(settings, workload, clips)
        say(made.to_dict(), planning.plan_text(made, settings))


@campaign_app.command("run")
def run(
    config: Config = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on. Without it a campaign that is there goes on too.")
    ] = False,
    gate_now: Annotated[bool, typer.Option("--gate-now", help="Hold the Go/No-Go gate at once.")] = False,
    override: Annotated[
        str, typer.Option(help="Go on against a HOLD or NO-GO, for this reason; it is recorded.")
    ] = "",
    unattended: Annotated[
        bool, typer.Option("--unattended", help="A campaign that stopped for a person stays stopped.")
    ] = False,
    preset: Preset = None,
    overrides: Set = None,
    device: Device = None,
    speed: Speed = 1.0,
) -> None:
    """Train for weeks: resume, stop before the budget is overspent, let the gate decide, end with a report.

    Exit status: 3 NO-GO, 4 budget spent, 5 HOLD, 75 interrupted; each with a checkpoint.

    \b
    kwela campaign run --config ai-service/config.json
    kwela campaign run --resume --gate-now
    kwela campaign run --preset tiny --speed 100000
    """
    from kwela.campaign.money.clock import MachineClock
    from kwela.campaign.run.orchestrator import Orchestrator
    from kwela.campaign.run.running_campaign import RunningCampaign
    from kwela.cli import musicgen

    settings, file = _settings(config, rehearsal=speed != 1)
    options = TrainingOptions(file, preset, overrides or (), device)
    base_model = musicgen.read_settings(config, preset, overrides or [])[0].model.base
    if options.may_change_the_model:
        settings.model_name = base_model
    _check_before_the_first_day(settings, base_model, resume)
    environment = this_environment(settings, file.parent)
    commands = campaign_commands(settings, options)
    campaign = RunningCampaign(settings, commands, MachineClock(speed), environment, speed)
    try:
        Orchestrator(campaign).run(gate_now=gate_now, override=override, unattended=unattended)
    except (NoGo, BudgetSpent):
        report_after_the_end(file, rehearsal=speed != 1)
        raise
    report_after_the_end(file, rehearsal=speed != 1)


@campaign_app.command("status")
def status(
    config: Config = None,
    rehearsal: Rehearsal = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every five seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Show where a campaign stands: progress, loss, GPU, dollars, forecast, flags, days to the gate.

    \b
    kwela campaign status --watch
    """
    from kwela.campaign.report import status_screen

    settings, _ = _settings(config, rehearsal)
    folder = settings.checkpoint_dir
    _need_campaign(folder)
    if not watch:
        with speaking(as_json) as say:
            facts = status_screen.status(folder, settings)
            say(facts, "" if as_json else status_screen.screen(folder, settings))
        return
    from rich.live import Live
    from rich.text import Text

    with contextlib.suppress(KeyboardInterrupt), Live(screen=sys.stdout.isatty(), auto_refresh=False) as live:
        while True:
            live.update(Text(terminal.printable(status_screen.screen(folder, settings))), refresh=True)
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

    from kwela.campaign.money import ledger
    from kwela.campaign.money.clock import MachineClock
    from kwela.campaign.money.costs import add_up
    from kwela.campaign.money.ledger_rows import campaign_row
    from kwela.campaign.run.campaign_state import read_state
    from kwela.campaign.run.orchestrator import LOCK

    settings, _ = _settings(config, rehearsal)
    folder = settings.checkpoint_dir
    path = folder / ledger.NAME
    if not path.is_file():
        raise UserError(f"{folder}: no campaign here yet: set budget_usd in its config instead")
    try:
        with filelock.FileLock(folder / LOCK, blocking=False):
            book = ledger.Ledger(path, MachineClock())
            if campaign_row(book.rows) is None:
                raise UserError(
                    f"{path}: its first line is damaged: kwela campaign run mends it from a checkpoint"
                )
            before = add_up(book.rows).budget_usd
            if not to > before:
                raise UserError(f"--to {to:g}: the budget is ${before:,.2f} already")
            book.record("budget", budget_usd=to, who=getpass.getuser())
    except filelock.Timeout:
        raise UserError(f"{folder}: an orchestrator is at work: stop it first (Ctrl-C saves)") from None
    verdict = read_state(folder, settings).verdict_text
    terminal.say(
        f"Budget ${before:,.2f} → ${to:,.2f}; kwela campaign run --resume goes on (the gate: {verdict})"
    )


@campaign_app.command("simulate")
def simulate(
    config: Config = None,
    runs: Annotated[int, typer.Option(min=1, help="How many campaigns are simulated.")] = 1000,
    market: Annotated[str, typer.Option(help="spot or on-demand.")] = "spot",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Simulate a campaign thousands of times: cost, days, outcome; and figures of the playbook that disagree.

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
    """Write the campaign as Markdown, HTML and PDF, and its deliverables, each checked.

    \b
    kwela campaign report
    """
    from kwela.campaign.report import campaign_report

    settings, _ = _settings(config, rehearsal)
    _need_campaign(settings.checkpoint_dir)
    with speaking(as_json) as say:
        written = campaign_report.write_report(settings)
        say(written, "\n".join(campaign_report.summary_lines(written)))


def _settings(config: Path | None, rehearsal: bool = False) -> tuple[PlaybookConfig, Path]:
    """Return the playbook's settings, and their file. rehearsal: use the folders of a rehearsal."""
    from kwela import playbook
    from kwela.campaign.run.campaign_state import use_rehearsal_folders

    settings = playbook.load(config)
    if rehearsal:
        use_rehearsal_folders(settings)
    return settings, playbook.find(config).absolute()


def _need_campaign(folder: Path) -> None:
    """Raise UserError where no campaign has begun."""
    from kwela.campaign.money import ledger

    if not (folder / ledger.NAME).is_file():
        raise UserError(f"{folder}: no campaign here yet (kwela campaign run starts one)")


def _check_before_the_first_day(settings: PlaybookConfig, base_name: str, resume: bool) -> None:
    """Raise UserError where a campaign could not begin; nothing is checked of one that has begun."""
    from kwela.campaign.money import ledger
    from kwela.campaign.run.campaign_state import TABLE
    from kwela.cli import musicgen
    from kwela.musicgen import base_model

    folder, table = settings.checkpoint_dir, settings.dataset_dir / TABLE / "training_metadata.csv"
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
    base_model.find(base_name, musicgen.tiny_folder())
    if resume:
        terminal.say(f"Nothing to resume in {folder}: starting")
