"""Put together the commands that a campaign runs, and describe the machine that it runs on."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kwela import terminal
from kwela.errors import KwelaError

REPORT_SECONDS = 20 * 60.0  # of the 30 minutes that reserve_minutes keeps for the save and the report

if TYPE_CHECKING:
    from kwela.campaign.run.commands import CampaignCommands
    from kwela.campaign.run.running_campaign import Environment
    from kwela.playbook import PlaybookConfig


@dataclass(frozen=True)
class TrainingOptions:
    """What `kwela campaign` passes on to `kwela train musicgen`."""

    config: Path
    preset: str | None = None
    overrides: Sequence[str] = ()
    device: str | None = None

    @property
    def may_change_the_model(self) -> bool:
        """Whether another model than the config's may be trained."""
        return bool(self.preset or self.overrides)

    def command(self) -> list[str]:
        """Return the command that trains."""
        preset = ["--preset", self.preset] if self.preset else []
        device = ["--device", self.device] if self.device else []
        overrides = [word for override in self.overrides for word in ("--set", override)]
        return _kwela("train", "musicgen", "--config", self.config, *preset, *device, *overrides)


def _kwela(*words: object) -> list[str]:
    return [sys.executable, "-m", "kwela", *map(str, words)]


def campaign_commands(settings: PlaybookConfig, options: TrainingOptions) -> CampaignCommands:
    """Return the commands of the campaign in `settings.checkpoint_dir`."""
    from kwela.campaign.money import ledger
    from kwela.campaign.run.campaign_state import TABLE
    from kwela.campaign.run.commands import CampaignCommands

    folder, evaluation = settings.checkpoint_dir, settings.evaluation
    device = ["--device", options.device] if options.device else []
    out = ["--out", str(folder), "--ledger", str(folder / ledger.NAME)]

    def sample(model: str, prompts: Sequence[str], seed: int, out: Path, stream: bool) -> list[str]:
        if model == "base" and options.may_change_the_model:
            model = settings.model_name
        prompt_words = [word for prompt in prompts for word in ("--prompt", prompt)]
        clips = ["--duration", evaluation.seconds, "--seed", seed, "--out", out]
        source = ["--model", model, *prompt_words, *clips, "--config", options.config]
        streaming = ["--stream"] if stream else []
        return _kwela("generate", "audio", *source, *device, *streaming, "--json")

    def authenticity(tuned: Path, base: Path, out: Path) -> list[str]:
        real = ["--reference", evaluation.reference_dir, "--contrast", evaluation.contrast_dir]
        made = ["--samples", tuned, "--base", base]
        return _kwela("judge", "authenticity", *real, *made, "--out", out, "--json")

    def damage(tuned: Path, base: Path, model: Path, out: Path) -> list[str]:
        clips = settings.dataset_dir / TABLE / "audio"
        training = ["--training", clips] if clips.is_dir() else []
        unseen = ["--unseen", evaluation.contrast_dir, "--model", model]
        made = ["--tuned", tuned, "--base", base]
        return _kwela("judge", "damage", *made, *training, *unseen, "--out", out, "--json")

    return CampaignCommands([*options.command(), *out], sample, authenticity, damage)


def this_environment(settings: PlaybookConfig, config_folder: Path) -> Environment:
    """Return what this machine is and has. The market of a rented machine is the one that is paid."""
    from kwela.campaign.run.running_campaign import Environment
    from kwela.machines import gpu, interruption, programs, provider

    machine = provider.this_machine()
    market = machine.market if machine else None
    if market in ("spot", "on-demand") and market != settings.market:
        terminal.say(f"This instance is {market}, whatever the config says")
        settings.market = market  # type: ignore[assignment]
    return Environment(
        (machine and machine.id) or platform.node(),
        gpu.utilisation,
        interruption.watch,
        programs.machine_goes_down,
        config_folder,
        settings.tensorboard_dir,
        config_folder / "training_logs" / "training.log",
    )


def probe(options: TrainingOptions) -> dict[str, float]:
    """Return what `kwela train --estimate` measures. Raises KwelaError if it fails."""
    command = [*options.command(), "--estimate", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise KwelaError(f"the probe failed with exit status {done.returncode}; see above")
    estimate: dict[str, float] = json.loads(done.stdout)
    return estimate


def report_after_the_end(config: Path, rehearsal: bool) -> None:
    """Write the report of a campaign that has ended. If it fails, the exit status stays the campaign's.

    A process of its own writes it, with a limit: the machine is paid for until its last process has ended.
    """
    command = _kwela("campaign", "report", "--config", config, *(["--rehearsal"] if rehearsal else []))
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        terminal.say(f"no report: {error}", sys.stderr)
        return
    try:
        status = process.wait(REPORT_SECONDS)
        trouble = f"exit status {status}" if status else ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        trouble = f"it took over {REPORT_SECONDS / 60:.0f} minutes"
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if trouble:
        terminal.say(f"no report: {trouble}; kwela campaign report writes it", sys.stderr)
