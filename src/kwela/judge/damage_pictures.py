"""The damage judge's pictures: mean spectra, and spectrograms of base clips beside tuned ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kwela.judge import clips
from kwela.judge.damage_sound import CENTRES, HIGH, HOP, N_FFT, RATE, spectrum

if TYPE_CHECKING:
    from kwela.judge.damage import Side

COLOURS = {"base": "#0072B2", "tuned": "#D55E00", "unseen": "#000000"}  # colour-blind safe (Okabe and Ito)
SECONDS = 10.0
RANGE = 80.0  # dB


def spectra(sides: dict[str, Side], path: Path) -> None:
    """Each side's spectrum over its clips: the median, and the middle half shaded; every clip's energy counts as 1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    for name, side in sides.items():
        power = np.array([one["spectrum"] for one in side.found])
        power = power[power.sum(1) > 0]
        if not len(power):
            continue
        level = 10 * np.log10(np.maximum(power / power.sum(1, keepdims=True), 1e-12))
        low, middle, high = np.quantile(level, [0.25, 0.5, 0.75], axis=0)
        axes.fill_between(CENTRES, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axes.plot(CENTRES, middle, color=COLOURS[name], label=f"{name} ({len(power)} clips)", linewidth=1.8)
    axes.axvline(HIGH, color="#777777", linestyle=":", linewidth=1.2)
    axes.text(HIGH * 1.03, 0.97, "8 kHz", transform=axes.get_xaxis_transform(), color="#555555", va="top")
    axes.set_xscale("log")
    ticks = {100: "100", 200: "200", 500: "500", 1000: "1k", 2000: "2k", 5000: "5k", 10_000: "10k", 20_000: "20k"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_ylim(-110, 0)
    axes.set_xlabel("Hz, in thirds of an octave")
    axes.set_ylabel("share of a clip's energy, dB")
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.legend(frameon=False, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def spectrograms(base: list[tuple[str, Path]], tuned: list[tuple[str, Path]], path: Path) -> None:
    """Clips of both sides, a line a pair: (name, file). dB under each clip's own peak."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        len(base), 2, figsize=(11, 2.5 * len(base)), layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    picture = None
    for line, pair in zip(grid, zip(base, tuned, strict=True), strict=True):
        for axes, (name, file) in zip(line, pair, strict=True):
            power = spectrum(clips.load(file, RATE, SECONDS)).T
            level = 10 * np.log10(np.maximum(power, 1e-20))
            level -= max(level.max(), -100.0)
            times = np.arange(power.shape[1] + 1) * HOP / RATE
            hertz = np.arange(N_FFT // 2 + 2) * RATE / N_FFT / 1000
            picture = axes.pcolormesh(times, hertz, level, vmin=-RANGE, vmax=0, cmap="magma", rasterized=True)
            axes.axhline(HIGH / 1000, color="white", linestyle=":", linewidth=0.8)
            axes.set_title(name if len(name) < 62 else f"{name[:60]}…", fontsize=8)
            axes.set_ylim(0, 20)
        line[0].set_ylabel("kHz")
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    if picture is not None:
        figure.colorbar(picture, ax=grid, label="dB under the clip's peak", shrink=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
