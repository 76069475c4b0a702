"""Report what a campaign does: on the terminal, in a log, in TensorBoard, and to people by webhook or SNS."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from kwela import terminal
from kwela.campaign.decide import gate
from kwela.campaign.run import notify
from kwela.campaign.run.campaign_state import TABLE, CampaignState
from kwela.campaign.run.notify import Messenger
from kwela.campaign.run.side_thread import SideThread
from kwela.playbook import PlaybookConfig

BOARD_PATIENCE = 20.0  # seconds that TensorBoard is waited for; the first time it is imported


class CampaignLog:
    """log: a file that lines are appended to; board: TensorBoard's folder. None: there is none."""

    def __init__(self, settings: PlaybookConfig, log: Path | None, board: Path | None) -> None:
        self.settings, self.log, self.board = settings, log, board
        self.messenger = Messenger(settings.notify, self.say, settings.checkpoint_dir / notify.NAME)
        self._writer: Any = None
        self._board_thread, self._board_trouble = SideThread("tensorboard", BOARD_PATIENCE), ""

    def say(self, text: str) -> None:
        """Print lines and append them to the log. A closed terminal or a full disk stops nothing."""
        terminal.say(text)
        if self.log:
            try:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text + "\n")
            except OSError as error:
                terminal.say(f"{self.log}: {error.strerror}", sys.stderr)

    def notify(self, text: str, **facts: Any) -> None:
        """Send a message to the people that the settings name.

        Messages take the machine's own time, however fast a rehearsal's clock is.
        """
        folder = str(self.settings.checkpoint_dir)
        self.messenger.send(
            {"text": f"kwela campaign, {text}", "campaign": folder, **facts}, time.monotonic()
        )

    def plot(self, name: str, value: float, step: int) -> None:
        """Add a point to a curve in TensorBoard."""
        if self.board is None:
            return
        try:
            self._board_thread.call(lambda: self._add_point(name, value, step), None)
            trouble = f"doesn't answer within {BOARD_PATIENCE:.0f} s" if self._board_thread.hangs else ""
        except Exception as error:  # a full disk, a file in the way: the money goes on without the curve
            self._writer, trouble = None, str(error)
        if trouble and trouble != self._board_trouble:
            self.say(f"TensorBoard, {self.board}: {trouble}; its curves lack points, the ledger has them all")
        self._board_trouble = trouble

    def _add_point(self, name: str, value: float, step: int) -> None:
        assert self.board
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._writer = SummaryWriter(str(self.board / "campaign"))
        self._writer.add_scalar(name, value, step)

    def banner(self, state: CampaignState, price: float, config_folder: Path | None, speed: float) -> None:
        """Say the playbook's first lines. price: dollars an hour."""
        settings, data = self.settings, self.settings.dataset_dir / TABLE
        beside_config = config_folder is not None and data.is_relative_to(config_folder)
        shown = f"./{data.relative_to(config_folder)}" if config_folder and beside_config else str(data)
        lines = [
            gate.SEPARATOR,
            "PHASE 2.5: MagnaTagATune Proxy Training",
            gate.SEPARATOR,
            f"Model: {state.model}",
            f"Dataset: {shown}",
            f"Target epochs: {settings.num_epochs}",
            f"GPU cost: ${price:g}/hour",
            f"Week 5 checkpoint: Day {settings.week_5_threshold_days:g}",
            gate.SEPARATOR,
        ]
        if speed != 1:
            lines.append(f"REHEARSAL: the clock runs {speed:g} times as fast; nothing here is paid")
        if state.curve.step:
            totals = state.totals
            lines.append(
                f"Campaign day {totals.days:.1f}, step {state.curve.step:,}, ${totals.usd:,.2f} so far"
            )
        self.say("\n".join([*lines, ""]))

    def close(self) -> None:
        """Finish the messages that are under way, and TensorBoard's file. Neither is waited for long."""
        self.messenger.finish(time.monotonic())
        if self._writer:
            with contextlib.suppress(Exception):  # a full disk
                self._board_thread.call(self._writer.close, None)
