"""Ask nvidia-smi about the NVIDIA cards of this machine. Nothing here fails where there is none."""

from __future__ import annotations

import statistics

from kwela.machines import programs

MIB = 2**20


def utilisation() -> float | None:
    """Return the percent of the last sample period (up to a second) in which a kernel ran.

    It is the mean over the cards; None without a card.
    """
    each = utilisations()
    return statistics.fmean(each) if each else None


def utilisations() -> list[float]:
    """Return the same for each card, in nvidia-smi's order, without cards that can't say (MIG slices)."""
    return [float(row[0]) for row in _query("utilization.gpu") if row[0].isdigit()]


def describe() -> str:
    """Return `Tesla T4 (16.1 GB VRAM)`, with `4 x` before several alike; `none` without a card.

    A GB is 10^9 bytes.
    """
    rows = _query("name,memory.total")
    cards = [f"{name} ({int(mib) * MIB / 1e9:.1f} GB VRAM)" for name, mib in rows if mib.isdigit()]
    counted = [(cards.count(card), card) for card in dict.fromkeys(cards)]
    return ", ".join(card if count == 1 else f"{count} x {card}" for count, card in counted) or "none"


def _query(fields: str) -> list[list[str]]:
    """Return a row of `fields` for each card; none if nvidia-smi is missing, fails or takes over 10 s."""
    answer = programs.output(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"], 10)
    rows = [[cell.strip() for cell in line.split(",")] for line in (answer or "").splitlines()]
    return [row for row in rows if len(row) == fields.count(",") + 1]
