"""`kwela judge midi`: does a MIDI generator follow the emotion it is given, is it music, is it its own?

In the order of the page: how good the evaluators are; what the emotion is worth to the model on held-out songs; whether
generated pieces are heard as what was asked for, beside rivals that don't listen; what is left of that without tempo
and velocity; what turning one dimension moves; whether it is music like held-out music; whether it is copied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kwela import config
from kwela.errors import UserError
from kwela.judge import gain, making, memorisation, midi_grid, midi_sections
from kwela.judge import human as human_labels
from kwela.judge.grid import answers
from kwela.judge.material import BRIEF, LEAST_SONGS, THOROUGH, Effort, Material, gather, mean_emotion, reference
from kwela.judge.page import Scorecard

TITLE = "MIDI generator"


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    human: Path | None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of a MIDI generator, written to `out` as midi.json, midi.md and pictures.

    model: a checkpoint; manifest, training: JSONL of held-out and training rows; human: a folder in VGMIDI's layout
    for the evaluators. None is the default place. quick: fewer seeds and resamples. Raises UserError for bad input.
    """
    root = config.repo_root()
    model = model or root / "checkpoints" / "midi_generator" / "best.pt"
    manifest = manifest or root / "data" / "manifests" / "midi_val.jsonl"
    training = training or root / "data" / "manifests" / "midi_train.jsonl"
    labels = _labels(human) if human else None
    loaded = making.load(model)
    material = gather(manifest, training)
    if loaded.data_hash == material.data_hash:
        material.data_hash = ""
    if material.songs < LEAST_SONGS:
        card = refused(f"{material.songs} held-out songs are too few: {LEAST_SONGS} would do", material)
        card.write(out, "midi")
        return card
    effort = BRIEF if quick else THOROUGH
    chosen = material.held_out[: effort.songs]
    nats = gain.measure(
        loaded.network, loaded.window, chosen, mean_emotion(material.training), effort.draws, seed, effort.ids
    )
    gained = gain.gains(nats, [row["group"] for row in chosen], seed)
    levels = gain.levels(nats, [row["group"] for row in chosen], seed)
    card = score(making.maker(model), material, labels, effort, out, seed, (levels, gained, len(chosen)))
    card.write(out, "midi")
    return card


def score(
    make: making.Maker,
    material: Material,
    labels: human_labels.Labels | None,
    effort: Effort,
    out: Path,
    seed: int,
    gained: tuple[list[Any], dict[str, Any], int] | None = None,
) -> Scorecard:
    """All that is asked of pieces alone; `make` may be any generator. Pictures go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    made = answers(make, effort.size, material.training, mean_emotion(material.training), seed)
    natural = make(natural_jobs(material, effort, seed))
    known = midi_grid.evidence(labels, material, effort, seed)
    ears = midi_grid.listen(known, made, seed)
    songs = reference(material.held_out, effort.size.bars, seed)
    library = memorisation.Library([row["score"] for row in material.training])

    card = Scorecard(TITLE, warning(material, known))
    card.sections.update(midi_sections.evaluators(ears, known))
    if gained is not None:
        card.sections.update(midi_sections.gain(*gained, out))
    card.sections.update(midi_sections.grid(ears, made, effort.size, out))
    card.sections.update(midi_sections.flips(ears, made["model"], [score for score, _ in songs]))
    card.sections.update(midi_sections.quality(natural, songs, seed, out))
    pieces = [one for one in [*made["model"].scores, *natural] if one is not None]
    shared, copies = midi_sections.memorised(library, pieces, songs, material.training, effort.size.bars, seed, out)
    card.sections.update(shared)
    card.verdicts.update(midi_sections.verdicts(card.sections, ears, made["model"], material.derived, known, copies))
    card.more["settings"] = {
        "grid": {"values": effort.size.sides, "intensities": effort.size.intensities},
        "seeds": effort.size.seeds,
        "bars": effort.size.bars,
        "quick": effort is BRIEF,
        "seed": seed,
    }
    card.more["left_out"] = material.left_out | (labels.left_out if labels else {})
    card.more["copies"] = copies
    return card


def refused(why: str, material: Material) -> Scorecard:
    return Scorecard(TITLE, "", {}, {"status": "refused", "why": why}, {"left_out": material.left_out})


def natural_jobs(material: Material, effort: Effort, seed: int) -> list[making.Job]:
    """Pieces for the held-out songs' own emotions, so that quality compares like with like."""
    told = [row["emotion64"] for row in material.held_out]
    return [
        making.Job(tuple(told[number % len(told)].tolist()), seed * 10_000 + 5_000 + number, effort.size.bars)
        for number in range(effort.natural)
    ]


def warning(material: Material, known: midi_grid.Evidence) -> str:
    """The page's first line: what its emotions are."""
    lines = []
    if material.derived:
        lines.append(
            f"The manifest's emotions are DERIVED FROM THE MIDI ITSELF ({material.derived}): a model that follows them "
            "follows a rule about notes, and nothing here shows that anyone would feel it."
        )
    if material.data_hash:
        lines.append(
            "The model was trained with other manifests than these: whether it has not seen these songs is unknown."
        )
    if known.why:
        lines.append(f"Whether pieces are heard as asked is not measured: {known.why}.")
    elif known.source != "human":
        lines.append("No --human: the evaluators learned the held-out rows' own labels, whatever these are worth.")
    return " ".join(lines)


def _labels(folder: Path) -> human_labels.Labels:
    if not folder.is_dir():
        raise UserError(f"--human: {folder}: no such folder")
    return human_labels.read(folder)
