"""Lay out measured clips as a scorecard: base, tuned and real music in one table, verdicts and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kwela import plots
from kwela.judge.damage.audio_metrics import CENTRES, HIGH, LONGEST, NO_HIGHS, RATE
from kwela.judge.damage.measured_folder import MeasuredFolder
from kwela.judge.shared import clips, copies
from kwela.judge.shared.copies import SharedStretch
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow
from kwela.stats import NOT_MEASURED, Interval, bootstrap, mean_by_group, paired_permutation

if TYPE_CHECKING:
    from kwela.judge.damage.cross_entropy import CrossEntropies

TITLE = "What fine-tuning broke"
NO_REAL = "No real clips were given (--unseen): nothing says how much of this ordinary music does too."
NOTES = {"base": "what tuning began from", "unseen": "real music"}
COLOURS = {"base": plots.BLUE, "tuned": plots.RED, "unseen": plots.BLACK}
SECONDS, RANGE = 10.0, 80.0  # of a spectrogram; dB


class Measure(NamedTuple):
    """How a measure is titled, and which change of it is damage."""

    title: str
    unit: str
    damage_direction: int  # 1 up, -1 down, 0 neither
    tolerance: float  # a change up to this is no damage
    text: str


MEASURES = {
    "highs": Measure("Energy above 8 kHz", "dB of the whole", -1, 3.0,
                     "Training audio sampled at 16 kHz holds none, and a model tuned on it grows dull."),
    "silent": Measure("Silence", "share of a clip", 1, 0.02,
                      "The share of 50 ms frames below -60 dB full scale."),
    "looping": Measure("Loops", "share of a clip", 1, 0.10,
                       "The share that repeats what stood one lag (0.5 to 10 s) earlier, at the most "
                       "repeating lag. "
                       "Sequenced music repeats too, so read it beside the base and real clips."),
    "clipping": Measure("Clipping", "share of samples", 1, 0.001,
                        "The share of samples at full scale or on a flat top, of the worst channel."),
    "loudness": Measure("Loudness", "LUFS", 0, 0.0, "ITU-R BS.1770-4. No verdict: louder is not damage."),
    "cross_entropy": Measure("Cross-entropy on unseen clips", "nats a code", 1, 0.05,
                             "Of the model itself, teacher-forced and told no prompt, on the unseen clips"),
}  # fmt: skip


@dataclass(frozen=True)
class CopySearch:
    """What clips share with training clips.

    shared[side][k]: the longest stretch of the side's clip k. training: the clips that were searched, to
    which `SharedStretch.other` points. training_count: how many training clips the folder holds.
    """

    shared: dict[str, list[SharedStretch]]
    training: list[Path]
    training_count: int


def fill_scorecard(
    made: Scorecard,
    sides: dict[str, MeasuredFolder],
    pairs: list[tuple[int, int]],
    copied: CopySearch | None,
    entropies: CrossEntropies | None = None,
) -> None:
    """Fill in the tables and verdicts.

    pairs: indexes of clips of one prompt, (base, tuned). Without pairs the sides are compared unpaired.
    """
    same = {clip["digest"] for clip in sides["base"].measurements} & {
        clip["digest"] for clip in sides["tuned"].measurements
    }
    lines = [f"{len(same)} clips of both folders are the same audio: these can't differ."] if same else []
    made.warning = " ".join(lines if "unseen" in sides else [*lines, NO_REAL])
    made.verdicts["status"] = "measured"
    made.extra_json["pairs"] = len(pairs)
    how = "by pair" if pairs else "unpaired: file names don't match"
    names = {label: [str(path) for path in side.paths] for label, side in sides.items()}
    for name in ("highs", "silent", "looping", "clipping", "loudness"):
        add_measure(
            made, name, {label: side.values(name) for label, side in sides.items()}, pairs, how, names
        )
    length = f" Of the middle {made.extra_json['seconds']:.3g} s of each clip: the shortest holds no more."
    for name in ("silent", "looping"):
        made.sections[name].text += length
    made.sections["highs"].picture = "spectra.png"
    made.sections["highs"].text += _dull_files(sides)
    if copied is None:
        made.verdicts["copies"] = "not measured: no training clips were given (--training)"
    else:
        _copies(made, sides, copied)
    add_cross_entropy(made, entropies)
    text = "Base beside tuned, from the pair that lost most highs to the one that lost least."
    made.add(
        "spectrograms", "Spectrograms", [], text if pairs else "Base beside tuned.", "", "spectrograms.png"
    )


def add_measure(
    made: Scorecard,
    name: str,
    values: dict[str, np.ndarray],
    pairs: list[tuple[int, int]],
    how: str,
    groups: dict[str, list[str]] | None = None,
) -> None:
    """Add the table of a measure, and its verdict. values: {side: (n,)}, NaN where a clip has no answer."""
    measure, rows = MEASURES[name], []
    for label, found in values.items():
        known, note = int(np.isfinite(found).sum()), NOTES.get(label, "")
        if known < len(found):
            note = f"{note}; {len(found) - known} silent or too short".lstrip("; ")
        rows.append(
            ScorecardRow.from_interval(
                label, mean_by_group(found, groups[label] if groups else None, made.seed), known, note
            )
        )
    change = difference(values["base"], values["tuned"], pairs, made.seed)
    note = f"{how}, p = {change.p:.2g}" if pairs else how
    rows.insert(2, ScorecardRow.from_interval("tuned - base", change.interval, len(pairs) or None, note))
    made.add(name, measure.title, rows, measure.text, measure.unit)
    if measure.damage_direction:
        made.verdicts[name] = verdict(change, measure)


def add_cross_entropy(made: Scorecard, entropies: CrossEntropies | None) -> None:
    """Add the table of cross-entropies on unseen clips, and its verdict; None: no model was given."""
    name, measure = "cross_entropy", MEASURES["cross_entropy"]
    if entropies is None:
        text = f"{measure.text}; a model was not given (--model)."
        made.add(
            name, measure.title, [ScorecardRow("tuned - base", note="no model was given")], text, measure.unit
        )
        return
    pairs = [(k, k) for k in range(len(entropies.base))]
    add_measure(made, name, {"base": entropies.base, "tuned": entropies.tuned}, pairs, "by clip")
    made.sections[name].text += ". What it forgot of music that it was not tuned on shows as more surprise."
    made.sections[name].rows.append(ScorecardRow("a guess among all codes", entropies.uniform, note="floor"))


class Change(NamedTuple):
    """Mean of tuned less mean of base. p: of a paired sign-flip test, NaN without pairs."""

    interval: Interval
    p: float


def difference(base: np.ndarray, tuned: np.ndarray, pairs: list[tuple[int, int]], seed: int) -> Change:
    """Return the change, with an interval by clip or, where there are pairs, by pair.

    Pairs of which one is NaN are left out.
    """
    if pairs:
        first, second = np.array(pairs).T
        apart = tuned[second] - base[first]
        apart = apart[np.isfinite(apart)]
        if not len(apart):
            return Change(NOT_MEASURED, np.nan)
        p = paired_permutation(apart, np.zeros(len(apart)), seed=seed)
        return Change(mean_by_group(apart, seed=seed), p)
    values = np.concatenate([base, tuned])
    is_tuned = np.arange(len(values)) >= len(base)
    kept = np.flatnonzero(np.isfinite(values))

    def difference_of(index: np.ndarray) -> float:
        chosen = kept[index]
        of_tuned, of_base = values[chosen[is_tuned[chosen]]], values[chosen[~is_tuned[chosen]]]
        return float(of_tuned.mean() - of_base.mean()) if len(of_tuned) and len(of_base) else float("nan")

    return Change(bootstrap(kept, difference_of, seed=seed), np.nan)


def verdict(change: Change, measure: Measure) -> str:
    """Return "worse" if the whole interval is damage, "not worse" if none of it is, else "can't tell".

    "not measured" for an interval of NaN. A bootstrap of a few odd clips among many alike gives too narrow an
    interval: where there are pairs, p must be <= 0.05 too.
    """
    ends = sorted(measure.damage_direction * end for end in (change.interval.low, change.interval.high))
    if not np.isfinite(ends).all():
        return "not measured"
    if ends[0] > measure.tolerance and not change.p > 0.05:
        return "worse"
    return "not worse" if ends[1] <= measure.tolerance else "can't tell"


def _dull_files(sides: dict[str, MeasuredFolder]) -> str:
    counts = {
        name: sum((clip["rate"] or 10**6) <= 16_000 for clip in side.measurements)
        for name, side in sides.items()
    }
    dull = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    return (
        f" Files sampled at 16 kHz or less, which can hold none ({NO_HIGHS:.0f} dB): {dull}." if dull else ""
    )


def _copies(made: Scorecard, sides: dict[str, MeasuredFolder], copied: CopySearch) -> None:
    """Add the longest stretches of each side, and the tuned clips that share more than chance gives.

    Equal audio is a copy whatever chance gives.
    """
    seconds = {name: np.array([one.seconds for one in shared]) for name, shared in copied.shared.items()}
    lengths = {
        name: np.array([clip["seconds"] for clip in side.measurements]) for name, side in sides.items()
    }
    stretches_are_long = any(
        (seconds[name] >= copies.MAX_CHANCE_SHARE * lengths[name]).any() for name in sides
    )
    equal = _equal_training_clips(sides, copied.training if stretches_are_long else [])
    null = "unseen" if "unseen" in sides else "base"
    chance = seconds[null][equal[null] < 0]
    bar = copies.copy_threshold(chance.tolist())
    rows = []
    for name, values in seconds.items():
        rows.append(ScorecardRow.from_interval(name, mean_by_group(values, seed=made.seed), len(values)))
        rows.append(ScorecardRow(f"{name}, longest", float(values.max()), None, len(values)))
    rows.append(ScorecardRow("counts as a copy above", bar, None, len(chance), f"from {null} clips"))
    found = [
        {
            "clip": sides["tuned"].paths[k].name,
            "training_clip": copied.training[equal["tuned"][k] if equal["tuned"][k] >= 0 else one.other].name,
            "seconds": one.seconds,
            "start": one.start,
            "training_start": one.other_start,
        }
        for k, one in sorted(enumerate(copied.shared["tuned"]), key=lambda pair: -pair[1].seconds)
        if one.seconds > bar or equal["tuned"][k] >= 0
    ]
    hidden = ""
    if bar >= copies.MAX_CHANCE_SHARE * lengths["tuned"].max():
        hidden = (
            f"not measured: chance alone shares {chance.max(initial=0):.1f} s of clips "
            f"{lengths['tuned'].max():.1f} s "
            "long: copies that are not equal audio can't be told from it"
        )
    text = (
        "The longest stretch whose chroma a clip shares with any training clip at one lag (not "
        "transposed, not at "
        f"another speed). A copy shares more than {copies.MIN_COPY_SECONDS:g} s and "
        f"{copies.CHANCE_MARGIN:g} times the longest that "
        f"{null} clips share by chance. Training clips searched: {len(copied.training)} of "
        f"{copied.training_count}."
    )
    if strangers := [sides[null].paths[k].name for k in np.flatnonzero(equal[null] >= 0)]:
        text += f" Left out of {null}, because it is a training clip: {', '.join(strangers[:10])}."
    line = (
        "\n- `{clip}` from {start:.1f} s is `{training_clip}` from {training_start:.1f} s, "
        "for {seconds:.1f} s"
    )
    if found:
        text += "\n" + "".join(line.format(**one) for one in found[:20])
    made.add("copies", "Copies of training clips", rows, text, "seconds")
    made.extra_json["copied"] = found
    made.verdicts["copies"] = len(found) or hidden or 0
    made.verdicts["searched_all_training"] = len(copied.training) == copied.training_count


def _equal_training_clips(sides: dict[str, MeasuredFolder], training: list[Path]) -> dict[str, np.ndarray]:
    """Return, for each side's clips, the index of the training clip of equal audio, or -1: (n,)."""
    index = {clips.audio_hash(clips.load_middle(path, RATE, LONGEST)): k for k, path in enumerate(training)}
    return {
        name: np.array([index.get(clip["digest"], -1) for clip in side.measurements])
        for name, side in sides.items()
    }


@plots.optional
def spectra(sides: dict[str, MeasuredFolder], path: Path) -> None:
    """Draw each side's spectrum over its clips: the median, and the middle half shaded.

    Every clip's energy counts as 1.
    """
    figure, (axis,) = plots.sheet(1, 1, (9, 4.6))
    for name, side in sides.items():
        power = np.array([clip["spectrum"] for clip in side.measurements])
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
    plots.save(figure, path)


@plots.optional
def spectrograms(sides: dict[str, MeasuredFolder], pairs: list[tuple[int, int]], path: Path) -> None:
    """Draw up to four rows of a base and a tuned clip, from the pair that lost most highs to the least.

    Without pairs, each side is in the order of its highs. Levels are dB under each clip's own peak.
    """
    base, tuned = (sides[name].values("highs") for name in ("base", "tuned"))
    if pairs:
        lines = [pairs[k] for k in _four(np.argsort([tuned[j] - base[i] for i, j in pairs]))]
    else:
        lines = list(zip(_four(np.argsort(base)), _four(np.argsort(tuned))))
    shown = [(name, sides[name].paths[k]) for line in lines for name, k in zip(("base", "tuned"), line)]
    figure, axes = plots.sheet(len(lines), 2, (11, 2.5 * len(lines)), sharex=True, sharey=True)
    for axis, (name, file) in zip(axes, shown, strict=True):
        picture = plots.draw_spectrogram(axis, clips.load_middle(file, RATE, SECONDS), RATE)
        axis.axhline(HIGH / 1000, color="white", linestyle=":", linewidth=0.8)
        title = f"{name}: {file.name}"
        axis.set_title(title if len(title) < 62 else f"{title[:60]}…", fontsize=8)
        axis.set(ylim=(0, 20), ylabel="kHz", xlabel="seconds")
        axis.label_outer()
    figure.colorbar(picture, ax=axes, label="dB under the clip's peak", shrink=0.6)
    plots.save(figure, path, 100)


def _four(order: np.ndarray) -> list[int]:
    return [int(order[k]) for k in np.linspace(0, len(order) - 1, 4).astype(int)]
