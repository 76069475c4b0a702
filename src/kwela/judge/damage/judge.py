"""Judge what fine-tuning broke: clips of the tuned model beside the base model's on the same prompts.

What the figures mean, and how they can mislead, is in docs/judging/damage.md.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from kwela.errors import UserError
from kwela.judge.damage import audio_metrics, cross_entropy
from kwela.judge.damage import page as damage_card
from kwela.judge.damage.measured_folder import MeasuredFolder
from kwela.judge.shared import clips, copies
from kwela.judge.shared.scorecard import Scorecard

FEWEST = 10  # different clips a side
QUICK = 60  # clips a side


def judge(
    base: Path,
    tuned: Path,
    training: Path | None = None,
    unseen: Path | None = None,
    model: Path | None = None,
    tiny: Path = Path("cache/musicgen/base"),
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """Return the scorecard of the clips in `tuned` beside those in `base`; write it to `out`, with pictures.

    training: the clips the model was tuned on, for the copy check. unseen: real music by artists it was not
    tuned on: a third column everywhere, and what the copy check is measured by. model: the tuned MusicGen's
    checkpoint, whose cross-entropy on `unseen` is measured beside its base's; tiny: where the stand-in base
    is. quick: at most 60 clips a side and 600 of training. Raises UserError for a folder that isn't there or
    holds no audio that decodes, and for a model without unseen clips; refuses below FEWEST.
    """
    if model and not unseen:
        raise UserError(
            "--model: its cross-entropy is measured on real clips it was not tuned on: give --unseen"
        )
    folders = {"base": base, "tuned": tuned} | ({"unseen": unseen} if unseen else {})
    most = QUICK if quick else None
    chosen = {
        name: clips.choose_files(clips.find_audio_files(folder), most, seed)
        for name, folder in folders.items()
    }
    seconds = audio_metrics.common_seconds(path for paths in chosen.values() for path in paths)
    sides = {name: _measure_folder(folder, name, chosen[name], seconds) for name, folder in folders.items()}
    card = Scorecard(damage_card.TITLE, quick=quick, seed=seed)
    counts = {name: len(side.paths) for name, side in sides.items()}
    left_out = {str(file): why for side in sides.values() for file, why in side.left_out.items()}
    card.extra_json = {"n": counts, "left_out": left_out, "seconds": seconds}
    if few := [f"{len(side.paths)} in {side.folder}" for side in sides.values() if len(side.paths) < FEWEST]:
        card.refuse(f"at least {FEWEST} different clips a folder are needed, found {', '.join(few)}")
    else:
        pairs = paired(sides["base"].paths, sides["tuned"].paths)
        shared = None
        if training is not None:
            shared = _copies(sides, training, copies.QUICK_CLIP_COUNT if quick else None, seed, left_out)
            counts["training"] = len(shared.training)
        entropies = None
        if model:
            scored = clips.choose_files(sides["unseen"].paths, cross_entropy.QUICK if quick else None, seed)
            entropies = cross_entropy.measure(model, scored, tiny)
        damage_card.fill_scorecard(card, sides, pairs, shared, entropies)
        damage_card.spectra(sides, out / "spectra.png")
        damage_card.spectrograms(sides, pairs, out / "spectrograms.png")
    card.write(out, "damage")
    return card


def paired(base: Sequence[Path], tuned: Sequence[Path]) -> list[tuple[int, int]]:
    """Which clips are of one prompt: (index in base, index in tuned) of equal file names without extension.

    A name that stands twice in a folder pairs nothing. Empty, so that the sides are compared unpaired, unless
    at least FEWEST pairs are found and they are at least half of either side.
    """
    names = [[path.stem for path in side] for side in (base, tuned)]
    once = [{name: k for k, name in enumerate(side) if side.count(name) == 1} for side in names]
    pairs = [(once[0][name], once[1][name]) for name in sorted(once[0].keys() & once[1].keys())]
    return pairs if len(pairs) >= max(FEWEST, len(base) / 2, len(tuned) / 2) else []


def _measure_folder(folder: Path, name: str, paths: list[Path], seconds: float) -> MeasuredFolder:
    """Measure the middle `seconds` of a folder's clips.

    Of equal audio the first counts alone; what does not decode is left out by name.
    """
    describe = functools.partial(audio_metrics.describe, seconds=seconds)
    measurements, bad = clips.map_files(describe, paths, f"Measuring {name}", folder)
    side = MeasuredFolder(folder, left_out=bad)
    seen: dict[str, Path] = {}
    for path, measured in measurements.items():
        if (first := seen.setdefault(measured["digest"], path)) != path:
            side.left_out[path] = f"the same audio as {first.name}"
            continue
        side.paths.append(path)
        side.measurements.append(measured)
    return side


def _copies(
    sides: dict[str, MeasuredFolder], training: Path, most: int | None, seed: int, left_out: dict[str, str]
) -> damage_card.CopySearch:
    """Find the longest stretch that each clip of each side shares with any training clip."""
    files = clips.find_audio_files(training)
    known, bad = clips.map_files(
        copies.chroma_of_file, clips.choose_files(files, most, seed), "Reading training clips", training
    )
    left_out |= {str(path): why for path, why in bad.items()}
    shared = {}
    longest = max(clip["seconds"] for clip in sides["tuned"].measurements)
    for name, side in sides.items():
        chroma, _ = clips.map_files(copies.chroma_of_file, side.paths, f"Reading {name} for copies")
        # An unreadable clip copies nothing. Chance grows with length: no clip is longer than a tuned one.
        of_side = [copies.middle_seconds(chroma.get(path, []), longest) for path in side.paths]
        shared[name] = copies.longest_shared_stretches(
            of_side, list(known.values()), f"Looking for copies in {name}"
        )
    return damage_card.CopySearch(shared, list(known), training_count=len(files))
