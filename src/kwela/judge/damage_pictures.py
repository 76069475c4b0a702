"""The damage judge's pictures: mean spectra, and spectrograms of base clips beside tuned ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kwela.judge import clips, pictures
from kwela.judge.damage_sound import CENTRES, HIGH, HOP, N_FFT, RATE, spectrum

if TYPE_CHECKING:
    from kwela.judge.damage import Side

COLOURS = {"base": pictures.BLUE, "tuned": pictures.RED, "unseen": pictures.BLACK}
SECONDS = 10.0
RANGE = 80.0  # dB


def spectra(sides: dict[str, Side], path: Path) -> None:
    """Each side's spectrum over its clips: the median, and the middle half shaded; every clip's energy counts as 1."""
    figure, (axis,) = pictures.sheet(1, 1, (9, 4.6))
    for name, side in sides.items():
        power = np.array([one["spectrum"] for one in side.found])
        power = power[power.sum(1) > 0]
        if not len(power):
            continue
        level = 10 * np.log10(np.maximum(power / power.sum(1, keepdims=True), 1e-12))
        low, middle, high = np.quantile(level, [0.25, 0.5, 0.75], axis=0)
        axis.fill_between(CENTRES, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axis.plot(CENTRES, middle, color=COLOURS[name], label=f"{name} ({len(power)} clips)", linewidth=1.8)
    axis.axvline(HIGH, color="#777777", linestyle=":", linewidth=1.2)
    axis.text(HIGH * 1.03, 0.97, "8 kHz", transform=axis.get_xaxis_transform(), color="#555555", va="top")
    axis.set_xscale("log")
    ticks = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
    axis.set_xticks(ticks, [str(tick) if tick < 1000 else f"{tick // 1000}k" for tick in ticks])
    axis.set(ylim=(-110, 0), xlabel="Hz, in thirds of an octave", ylabel="share of a clip's energy, dB")
    axis.legend(frameon=False, loc="lower left")
    pictures.save(figure, path)


def spectrograms(base: list[tuple[str, Path]], tuned: list[tuple[str, Path]], path: Path) -> None:
    """Clips of both sides, a line a pair: (name, file). dB under each clip's own peak."""
    figure, axes = pictures.sheet(len(base), 2, (11, 2.5 * len(base)), sharex=True, sharey=True)
    both = [one for pair in zip(base, tuned, strict=True) for one in pair]
    for axis, (name, file) in zip(axes, both, strict=True):
        power = spectrum(clips.load(file, RATE, SECONDS)).T
        level = 10 * np.log10(np.maximum(power, 1e-20))
        level -= max(level.max(), -100.0)
        times = np.arange(power.shape[1] + 1) * HOP / RATE
        hertz = np.arange(N_FFT // 2 + 2) * RATE / N_FFT / 1000
        picture = axis.pcolormesh(times, hertz, level, vmin=-RANGE, vmax=0, cmap="magma", rasterized=True)
        axis.axhline(HIGH / 1000, color="white", linestyle=":", linewidth=0.8)
        axis.set_title(name if len(name) < 62 else f"{name[:60]}…", fontsize=8)
        axis.set(ylim=(0, 20), ylabel="kHz", xlabel="seconds")
        axis.label_outer()
    figure.colorbar(picture, ax=axes, label="dB under the clip's peak", shrink=0.6)
    pictures.save(figure, path, 100)
