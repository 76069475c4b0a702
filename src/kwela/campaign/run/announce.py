"""Where a campaign speaks: the terminal, the log, TensorBoard, and people by webhook or SNS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kwela import terminal
from kwela.campaign.decide import gate
from kwela.campaign.run import notify
from kwela.campaign.run.notify import Messenger
from kwela.campaign.run.state import TABLE, Standing
from kwela.playbook import PlaybookConfig


class Teller:
    """log: a file that lines are appended to. board: TensorBoard's folder. None: not there."""

    def __init__(self, settings: PlaybookConfig, log: Path | None, board: Path | None) -> None:
        self.settings, self.log, self.board = settings, log, board
        self.messenger = Messenger(settings.notify, self.say, settings.checkpoint_dir / notify.NAME)
        self._writer: Any = None

    def say(self, text: str) -> None:
        """To the terminal and the log. A terminal that is gone or a log that can't be written stops nothing."""
        terminal.say(text)
        if self.log:
            try:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")
            except OSError as error:
                terminal.say(f"{self.log}: {error.strerror}", sys.stderr)

    def tell(self, text: str, now: float, **facts: Any) -> None:
        """To people. now: see Messenger."""
        where = str(self.settings.checkpoint_dir)
        self.messenger.say({"text": f"kwela campaign, {text}", "campaign": where, **facts}, now)

    def plot(self, name: str, value: float, step: int) -> None:
        if self.board is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import

            self._writer = SummaryWriter(str(self.board / "campaign"))
        self._writer.add_scalar(name, value, step)

    def banner(self, now: Standing, price: float, home: Path | None, speed: float) -> None:
        """The playbook's opening lines. home: the config's folder."""
        given, data = self.settings, self.settings.dataset_dir / TABLE
        shown = f"./{data.relative_to(home)}" if home and data.is_relative_to(home) else str(data)
        lines = [gate.SEPARATOR, "PHASE 2.5: MagnaTagATune Proxy Training", gate.SEPARATOR]
        lines += [f"Model: {now.model}", f"Dataset: {shown}", f"Target epochs: {given.num_epochs}"]
        lines += [
            f"GPU cost: ${price:g}/hour",
            f"Week 5 checkpoint: Day {given.week_5_threshold_days:g}",
            gate.SEPARATOR,
        ]
        if speed != 1:
            lines.append(f"REHEARSAL: the clock runs {speed:g} times as fast; nothing here is paid")
        if now.curve.step:
            lines.append(
                f"Campaign day {now.bill.days:.1f}, step {now.curve.step:,}, ${now.bill.usd:,.2f} so far"
            )
        self.say("\n".join([*lines, ""]))

    def close(self) -> None:
        if self._writer:
            self._writer.close()
