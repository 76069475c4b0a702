"""A run's loss curve, drawn from its metrics.jsonl, with the baselines it must beat."""

from __future__ import annotations

import json
from pathlib import Path

from kwela.errors import UserError


def draw(metrics: Path, out: Path, figure: str = "loss", title: str = "", unit: str = "") -> Path:
    """Draw `figure` in training and validation (`val_<figure>`) over steps, baselines as dashed lines; PNG at `out`.

    Raises UserError if `metrics` can't be read or holds no validation yet.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    try:
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{metrics}: can't be read: {error}") from None
    train = [(row["step"], row[figure]) for row in rows if row["split"] == "train" and figure in row]
    held_out = [(row["step"], row[f"val_{figure}"]) for row in rows if row["split"] == "val"]
    if not held_out:
        raise UserError(f"{metrics}: no validation yet")
    baselines: dict[str, float] = next(
        (row["baselines"] for row in reversed(rows) if row.get("baselines")), {}
    )

    with style.context("dark_background"):
        chart = Figure(figsize=(8, 4.5), dpi=120)
        axis = chart.subplots()
        chart.patch.set_facecolor("#101216")
        axis.set_facecolor("#101216")
        if train:
            axis.plot(*zip(*train), color="#5a6b7d", linewidth=1, label="training (augmented)")
        axis.plot(
            *zip(*held_out), color="#ffb547", linewidth=2, marker="o", markersize=4, label="held-out songs"
        )
        left = (train or held_out)[0][0]
        for name, value in baselines.items():
            axis.axhline(value, color="#7fb2ff", linewidth=0.8, linestyle="--")
            axis.annotate(name.replace("_", " "), (left, value), color="#7fb2ff", fontsize=8, va="bottom")
        # The first steps of an untrained model would squeeze everything that matters into a line.
        seen = [value for _, value in held_out + train[len(train) // 4 :]] + list(baselines.values())
        top, bottom = max(seen), min(seen)
        axis.set_ylim(max(0, bottom - 0.1 * (top - bottom)), top + 0.15 * (top - bottom))
        axis.set_xlabel("optimiser steps")
        axis.set_ylabel(f"{figure.replace('_', ' ')} ({unit})" if unit else figure.replace("_", " "))
        axis.set_title(title, loc="left", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, loc="best")
        chart.tight_layout()
        out.parent.mkdir(parents=True, exist_ok=True)
        chart.savefig(out)
    return out
