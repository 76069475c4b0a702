"""Draw a song as a piano roll: notes coloured by track, velocity as opacity, drums below, then the pedal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from symusic.core import ScoreTick, TrackTick

from kwela import plots
from kwela.music.grammar import FAMILY_SIZE
from kwela.music.score_events import PEDAL_CONTROL, PEDAL_DOWN

PAPER, INK, FAINT, BLACK_KEY = "#fbfaf7", "#2b2d33", "#e4e1da", "#f3f1eb"
# The palette of Okabe & Ito for all kinds of colour vision, with two tones in place of its yellow and black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5195", "#56b4e9", "#b8860b", "#5a6472")
MAX_INCHES, BARS_SHOWN = 20, 64  # a longer song shows its first bars and says so


def draw(score: ScoreTick, path: Path, title: str = "") -> Path:
    """Write the piano roll of `score` (tick unit) to `path` as PNG, and return `path`."""
    lines = bar_lines(score)[: BARS_SHOWN + 1]
    end = int(lines[-1])
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    drums = [track for track in score.tracks if track.is_drum and len(track.notes)]
    pedals = [spans for track in score.tracks if (spans := pedal_spans(track, end))]
    heights = [10.0, *([2.4] if drums else []), *([0.35] if pedals else [])]
    width = float(np.clip(2.5 + 0.6 * len(lines), 8, MAX_INCHES))
    figure = plots.new_figure((width, 0.42 * sum(heights) + 0.9), PAPER, "constrained")
    axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    for axis in axes:
        _dress(axis, lines)
    _draw_pitched(axes[0], pitched, end)
    if drums:
        _draw_drums(axes[1], drums, end)
    if pedals:
        spans = [(start, stop - start) for track in pedals for start, stop in track]
        axes[-1].broken_barh(spans, (0, 1), color=INK, alpha=0.35, linewidth=0)
        axes[-1].set(ylim=(0, 1), yticks=[0.5], yticklabels=["pedal"])
    every = max(1, -(-len(lines) // 16))
    axes[-1].set_xticks(lines[:-1:every], [str(i + 1) for i in range(0, len(lines) - 1, every)])
    axes[-1].set_xlabel("bar", color=INK, fontsize=9)
    shown = f"   first {BARS_SHOWN} bars" if score.end() > end else ""
    figure.suptitle(f"{title}{shown}", x=0.01, ha="left", color=INK, fontsize=11, fontweight="bold")
    return plots.save(figure, path, dpi=100)


def bar_lines(score: ScoreTick) -> np.ndarray:
    """Return the ticks of the bar lines from 0 to the end of the last bar, int64; at least one bar."""
    meters = sorted((m.time, 4 * score.tpq * m.numerator / m.denominator) for m in score.time_signatures)
    if not meters or meters[0][0] > 0:
        meters.insert(0, (0, 4.0 * score.tpq))
    lines, end = [0.0], max(score.end(), 1)
    while lines[-1] < end:
        lines.append(
            lines[-1] + max(1.0, next(length for time, length in reversed(meters) if time <= lines[-1]))
        )
    return np.array(lines, np.int64)


def pedal_spans(track: TrackTick, end: int) -> list[tuple[int, int]]:
    """Return (down, up) ticks of the sustain pedal (CC64 >= 64), cut at `end`."""
    spans, down = [], None
    controls = [control for control in track.controls if control.number == PEDAL_CONTROL]
    for time, pressed in sorted((control.time, control.value >= PEDAL_DOWN) for control in controls):
        if pressed and down is None:
            down = time
        elif not pressed and down is not None:
            spans.append((down, min(time, end)))
            down = None
    if down is not None:
        spans.append((down, end))
    return [span for span in spans if span[0] < end]


def _dress(axis: Axes, lines: np.ndarray) -> None:
    axis.set_facecolor(PAPER)
    axis.set_xlim(lines[0], lines[-1])
    axis.tick_params(length=0, labelsize=8, colors=INK)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.vlines(lines, 0, 1, transform=axis.get_xaxis_transform(), color=FAINT, linewidth=0.8, zorder=0)


def _draw_pitched(axis: Axes, tracks: list[TrackTick], end: int) -> None:
    pitches = [note.pitch for track in tracks for note in track.notes] or [60]
    low, high = max(0, min(pitches) - 3), min(127, max(pitches) + 3)
    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            axis.axhspan(pitch - 0.5, pitch + 0.5, color=BLACK_KEY, linewidth=0, zorder=-1)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axis.set(ylim=(low - 0.5, high + 0.5))
    axis.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axis.hlines([octave - 0.5 for octave in octaves], 0, end, color=FAINT, linewidth=0.8, zorder=0)
    gap = end / 2500  # so that repeated notes do not touch
    lines = []
    for index, track in enumerate(tracks):
        colour = COLOURS[index % len(COLOURS)]
        notes = [
            (n.time, max(n.time + gap, n.end - gap), n.pitch, n.velocity) for n in track.notes if n.time < end
        ]
        boxes = [[(a, y - 0.42), (b, y - 0.42), (b, y + 0.42), (a, y + 0.42)] for a, b, y, _ in notes]
        faces = [to_rgba(colour, 0.3 + 0.7 * velocity / 127) for *_, velocity in notes]
        axis.add_collection(PolyCollection(boxes, facecolors=faces, edgecolors=colour, linewidths=0.4))
        lines += axis.plot([], [], color=colour, linewidth=5)
    if tracks:
        axis.legend(
            lines, [track.name or program_name(track.program) for track in tracks],
            loc="lower right", bbox_to_anchor=(1, 1), ncols=min(6, len(tracks)), frameon=False, fontsize=8,
            labelcolor=INK, handlelength=1, borderaxespad=0.2,
        )  # fmt: skip


def _draw_drums(axis: Axes, tracks: list[TrackTick], end: int) -> None:
    hits = [
        (note.time, note.pitch, note.velocity) for track in tracks for note in track.notes if note.time < end
    ]
    keys = {key: row for row, key in enumerate(sorted({key for _, key, _ in hits}))}
    strokes = [[(time, keys[key] - 0.35), (time, keys[key] + 0.35)] for time, key, _ in hits]
    faces = [to_rgba(INK, 0.3 + 0.7 * velocity / 127) for *_, velocity in hits]
    axis.add_collection(LineCollection(strokes, colors=faces, linewidths=1.6))
    axis.set(ylim=(-0.8, len(keys) - 0.2), yticks=[(len(keys) - 1) / 2], yticklabels=["drums"])


def program_name(program: int) -> str:
    """Name a General MIDI program by its family and its number, 1-128: "piano 1"."""
    families = (
        "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed",
        "pipe", "synth lead", "synth pad", "synth effects", "world", "percussive", "sound effects",
    )  # fmt: skip
    return f"{families[program // FAMILY_SIZE]} {program + 1}"
