"""`kwela judge midi`: does a MIDI generator follow the emotion it is given, is it music, is it its own?

In the order of the page: how good the evaluators are; what the emotion is worth to the model on held-out songs; whether
generated pieces are heard as what was asked for, beside rivals that don't listen; what is left of that without tempo
and velocity; what turning one dimension moves; whether it is music like held-out music; whether it is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kwela import config
from kwela.errors import UserError
from kwela.judge.midi import evaluation, generation, shuffled_labels, teacher_forcing
from kwela.judge.midi import page as midi_sections
from kwela.judge.midi.adherence import DIMENSIONS
from kwela.judge.midi.evaluation import Ear
from kwela.judge.midi.grid import MODEL, PERMUTED, TWIN, Answers, answers, flips, same_notes
from kwela.judge.midi.inputs import (
    BRIEF,
    LEAST_SONGS,
    THOROUGH,
    Effort,
    Labels,
    Material,
    gather,
    mean_emotion,
    read_labels,
    reference,
)
from kwela.judge.shared.scorecard import Scorecard, ScorecardRow

TITLE = "MIDI generator"


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    human: Path | None,
    twin_model: Path | None = None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of a MIDI generator, written to `out` as midi.json, midi.md and pictures.

    model: a checkpoint; manifest, training: JSONL of held-out and training rows; human: a folder in VGMIDI's layout
    for the evaluators; None is the default place. twin_model: a checkpoint trained on shuffled labels (`twin.write`).
    quick: fewer seeds and resamples. Raises UserError for bad input, and for a twin that is the model.
    """
    root = config.repo_root()
    model = model or root / "checkpoints" / "midi_generator" / "best.pt"
    manifest = manifest or root / "data" / "manifests" / "midi_val.jsonl"
    training = training or root / "data" / "manifests" / "midi_train.jsonl"
    if human and not human.is_dir():
        raise UserError(f"--human: {human}: no such folder")
    labels = read_labels(human) if human else None
    loaded = {MODEL: generation.load(model)} | ({TWIN: generation.load(twin_model)} if twin_model else {})
    material = gather(manifest, training)
    if loaded[MODEL].data_hash == material.data_hash:
        material.data_hash = ""
    if twin_model:
        if loaded[TWIN].data_hash == loaded[MODEL].data_hash:
            raise UserError(
                f"--twin: {twin_model}: trained with the model's own manifests; a twin's labels are shuffled "
                "(kwela judge twin writes them)"
            )
        material.twin_doubt = shuffled_labels.doubt(material.training, loaded[TWIN].manifest)
    card = Scorecard(TITLE, quick=quick, seed=seed, extra_json={"left_out": material.left_out})
    if material.songs < LEAST_SONGS:
        card.refuse(f"{material.songs} held-out songs are too few: {LEAST_SONGS} would do")
        card.write(out, "midi")
        return card
    effort = BRIEF if quick else THOROUGH
    chosen = material.held_out[: effort.songs]
    mean = mean_emotion(material.training)
    nats = {
        name: teacher_forcing.measure(one.network, one.window, chosen, mean, effort.draws, seed, effort.ids)
        for name, one in loaded.items()
    }
    other = generation.maker(twin_model) if twin_model else None
    score(generation.maker(model), material, labels, effort, out, card, other, nats)
    card.write(out, "midi")
    return card


def score(
    make: generation.Maker,
    material: Material,
    labels: Labels | None,
    effort: Effort,
    out: Path,
    card: Scorecard,
    other: generation.Maker | None = None,
    nats: Mapping[str, teacher_forcing.Nats] | None = None,
) -> Scorecard:
    """All that is asked of pieces, onto `card`; `make` may be any generator, `other` its twin. Pictures go to `out`.

    nats: held-out surprise, by system; None leaves its tables out.
    """
    made = answers(make, effort.size, material.training, mean_emotion(material.training), card.seed, other)
    natural = make(natural_jobs(material, effort, card.seed))
    known = evaluation.evidence(labels, material, effort, card.seed)
    ears = evaluation.listen(known, made, card.seed)
    songs = reference(material.held_out, effort.size.bars, card.seed)

    card.warning = warning(material, known)
    midi_sections.evaluators(card, ears, known)
    if nats is not None:
        midi_sections.gain(card, nats, [row["group"] for row in material.held_out[: effort.songs]], out)
    midi_sections.grid(card, ears, made, effort.size, out)
    midi_sections.flips(card, ears, made, [score for score, _ in songs], out)
    midi_sections.quality(card, natural, songs, out)
    pieces = [one for one in [*made[MODEL].scores, *natural] if one is not None]
    midi_sections.memorised(card, pieces, songs, material.training, effort.size.bars, out)
    card.verdicts = _verdicts(card, ears, made[MODEL], material.derived, known.why)
    size = effort.size
    card.extra_json["settings"] = {"values": size.sides, "intensities": size.intensities, "seeds": size.seeds}
    card.extra_json["settings"] |= {"bars": size.bars, "quick": card.quick, "seed": card.seed}
    card.extra_json["left_out"] = material.left_out | (labels.left_out if labels else {})
    return card


def natural_jobs(material: Material, effort: Effort, seed: int) -> list[generation.Job]:
    """Pieces for the held-out songs' own emotions, so that quality compares like with like."""
    told = [row["emotion64"] for row in material.held_out]
    return [
        generation.Job(
            tuple(told[number % len(told)].tolist()), seed * 10_000 + 5_000 + number, effort.size.bars
        )
        for number in range(effort.natural)
    ]


def warning(material: Material, known: evaluation.Evidence) -> str:
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
    if material.twin_doubt:
        lines.append(f"The twin is doubtful: {material.twin_doubt}.")
    if known.why:
        lines.append(f"Whether pieces are heard as asked is not measured: {known.why}.")
    elif known.source != "human":
        lines.append(
            "No --human: the evaluators learned the held-out rows' own labels, whatever these are worth."
        )
    return " ".join(lines)


def _verdicts(
    card: Scorecard, ears: Mapping[str, Ear], of: Answers, derived: str, why: str
) -> dict[str, Any]:
    """derived: why labels are known to come from the MIDI; why: there is no evaluator."""
    out: dict[str, Any] = {
        "status": "measured",
        "labels": f"derived from the MIDI: {derived}" if derived else "given",
    }
    if "gain" in card.sections:
        rows = {one.label: one for one in card.sections["gain"].rows}
        out["emotion_helps_on_held_out_songs"] = _positive(rows["over shuffled emotions"])
        lone = ("valence", "arousal", "intensity")
        out["dimensions_that_help"] = [d for d in lone if _positive(rows[f"over shuffled {d} alone"]) is True]
    usable = {
        name: [d for d, good in zip(DIMENSIONS, ear.standing.usable) if good] for name, ear in ears.items()
    }
    out["evaluators"] = usable or f"not measured: {why}"
    out["heard_as_asked"] = {name: _followed(ear) for name, ear in ears.items()} or "not measured"
    out["only_tempo_and_velocity"] = _only_tempo_and_velocity(ears, of)
    out["valid_pieces"] = f"{int(of.valid.sum())} of {len(of.scores)}"
    out["copies"] = len(card.extra_json["copies"])
    return out


def _followed(ear: Ear) -> list[str]:
    """The dimensions whose rank correlation is surely over 0, over chance's, and over the twin's where there is one.

    Chance: the model's own pieces against permuted targets.
    """
    out = []
    for d, name in enumerate(DIMENSIONS):
        rivals = [
            ear.judged[system].figure(f"spearman_{name}").value
            for system in (PERMUTED, TWIN)
            if system in ear.judged
        ]
        if ear.standing.usable[d] and ear.judged[MODEL].figure(f"spearman_{name}").low > max(0.0, *rivals):
            out.append(name)
    return out


def _only_tempo_and_velocity(ears: Mapping[str, Ear], of: Answers) -> bool | str:
    """Whether what is followed vanishes once tempo and velocity are flattened, or the notes never change at all.

    "not measured" where the flattened evaluator can't tell a followed dimension from chance: then it is deaf to it,
    and its silence shows nothing.
    """
    turned = [*flips(of, 0), *flips(of, 1)]
    if turned and same_notes(of, turned).mean() > 0.5:
        return True
    plain, flat = ears.get("symbolic"), ears.get("symbolic (flattened)")
    if plain is None or flat is None:
        return "not measured: no evaluator"
    heard = _followed(plain)
    if not heard:
        return "nothing is followed"
    if set(heard) & set(_followed(flat)):
        return False
    deaf = [name for d, name in enumerate(DIMENSIONS) if name in heard and not flat.standing.usable[d]]
    if deaf:
        return f"not measured: the flattened evaluator can't tell {' or '.join(deaf)} from chance"
    return True


def _positive(row: ScorecardRow) -> bool | str:
    return "not measured" if row.value is None or row.ci is None else row.ci[0] > 0
