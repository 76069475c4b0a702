"""Judge whether a MIDI generator follows the emotion it is given, makes music, and makes its own.

In the order of the page: how good the evaluators are; what the emotion is worth to the model on held-out
songs; whether generated pieces are judged as their targets ask, beside rivals that can't follow them; what is
left of that without tempo and velocity; what turning one dimension changes; whether it is music like held-out
music; whether it is copied. docs/judging/midi.md explains every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kwela import config
from kwela.errors import UserError
from kwela.judge.midi import page, page_music, page_turned, shuffled_labels, teacher_forcing
from kwela.judge.midi.effort import FULL_EFFORT, QUICK_EFFORT, Effort
from kwela.judge.midi.emotion_grid import MODEL, TWIN, generate_grid
from kwela.judge.midi.evaluator_results import evaluate_systems
from kwela.judge.midi.generation import (
    GenerationRequest,
    PieceGenerator,
    checkpoint_generator,
    load_generator,
)
from kwela.judge.midi.labelled_excerpts import EvaluatorData, choose_evaluator_data
from kwela.judge.midi.labelled_pieces import LabelledPieces, read_labelled_pieces
from kwela.judge.midi.songs import (
    MIN_HELD_OUT_SONGS,
    JudgedSongs,
    mean_emotion,
    read_songs,
    reference_excerpts,
)
from kwela.judge.midi.verdicts import draw_verdicts
from kwela.judge.shared.scorecard import Scorecard

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
    """Return the scorecard of a MIDI generator, written to `out` as midi.json, midi.md and pictures.

    model: a checkpoint; manifest, training: JSONL of held-out and training rows; None is the default place.
    human: a folder in VGMIDI's layout for the evaluators. twin_model: a checkpoint trained on shuffled labels
    (`shuffled_labels.write_shuffled_rows`). quick: fewer seeds and resamples. Raises UserError for bad input,
    and for a twin that was trained on the model's own manifests.
    """
    root = config.repo_root()
    model = model or root / "checkpoints" / "midi_generator" / "best.pt"
    manifest = manifest or root / "data" / "manifests" / "midi_val.jsonl"
    training = training or root / "data" / "manifests" / "midi_train.jsonl"
    if human and not human.is_dir():
        raise UserError(f"--human: {human}: no such folder")
    labelled = read_labelled_pieces(human) if human else None
    generators = {MODEL: load_generator(model)} | ({TWIN: load_generator(twin_model)} if twin_model else {})
    songs = read_songs(manifest, training)
    if generators[MODEL].data_hash == songs.data_hash:
        songs.data_hash = ""
    if twin_model:
        if generators[TWIN].data_hash == generators[MODEL].data_hash:
            raise UserError(
                f"--twin: {twin_model}: trained with the model's own manifests; a twin's labels are shuffled "
                "(kwela judge twin writes them)"
            )
        songs.twin_doubt = shuffled_labels.reason_for_doubt(songs.training, generators[TWIN].manifest)
    card = Scorecard(TITLE, quick=quick, seed=seed, extra_json={"left_out": songs.left_out})
    if songs.held_out_song_count < MIN_HELD_OUT_SONGS:
        count = f"{songs.held_out_song_count} held-out songs"
        card.refuse(f"{count} are too few: {MIN_HELD_OUT_SONGS} would do")
        card.write(out, "midi")
        return card
    effort = QUICK_EFFORT if quick else FULL_EFFORT
    scored = songs.held_out[: effort.max_songs]
    mean = mean_emotion(songs.training)
    nats = {
        name: teacher_forcing.measure_nats(
            generator.network, generator.window, scored, mean, effort.shuffles, seed, effort.max_ids
        )
        for name, generator in generators.items()
    }
    twin = checkpoint_generator(twin_model) if twin_model else None
    judge_pieces(checkpoint_generator(model), songs, labelled, effort, out, card, twin, nats)
    card.write(out, "midi")
    return card


def judge_pieces(
    generate: PieceGenerator,
    songs: JudgedSongs,
    labelled: LabelledPieces | None,
    effort: Effort,
    out: Path,
    card: Scorecard,
    generate_twin: PieceGenerator | None = None,
    nats: Mapping[str, teacher_forcing.HeldOutNats] | None = None,
) -> Scorecard:
    """Add to `card` all that is measured on pieces of any generator; draw the pictures in `out`.

    nats: of held-out songs by system; None leaves their tables out.
    """
    bars = effort.grid.bars
    mean = mean_emotion(songs.training)
    systems = generate_grid(generate, effort.grid, songs.training, mean, card.seed, generate_twin)
    for_held_out = generate(held_out_requests(songs, effort, card.seed))
    data = choose_evaluator_data(labelled, songs, effort, card.seed)
    results = evaluate_systems(data, systems, card.seed)
    references = reference_excerpts(songs.held_out, bars, card.seed)

    card.warning = page_warning(songs, data)
    page.add_evaluators(card, results, data)
    if nats is not None:
        page.add_gain(card, nats, [row["group"] for row in songs.held_out[: effort.max_songs]], out)
    page.add_grid(card, results, systems, effort.grid, out)
    page_turned.add_turned_dimensions(card, results, systems, [score for score, _ in references], out)
    page_music.add_quality(card, for_held_out, references, out)
    made = [score for score in [*systems[MODEL].scores, *for_held_out] if score is not None]
    page_music.add_memorisation(card, made, references, songs.training, bars, out)
    card.verdicts = draw_verdicts(card, results, systems[MODEL], songs.label_derivation, data.missing_reason)
    card.extra_json["settings"] = {
        "values": effort.grid.sides,
        "intensities": effort.grid.intensities,
        "seeds": effort.grid.seeds,
        "bars": bars,
        "quick": card.quick,
        "seed": card.seed,
    }
    card.extra_json["left_out"] = songs.left_out | (labelled.left_out if labelled else {})
    return card


def held_out_requests(songs: JudgedSongs, effort: Effort, seed: int) -> list[GenerationRequest]:
    """Return requests for pieces with the held-out songs' own emotions, which quality is measured on."""
    emotions = [tuple(row["emotion64"].tolist()) for row in songs.held_out]
    return [
        GenerationRequest(emotions[number % len(emotions)], seed * 10_000 + 5_000 + number, effort.grid.bars)
        for number in range(effort.quality_pieces)
    ]


def page_warning(songs: JudgedSongs, data: EvaluatorData) -> str:
    """Return the page's first line, which says what its emotions are and what is in doubt."""
    sentences = []
    if songs.label_derivation:
        sentences.append(
            f"The manifest's emotions are DERIVED FROM THE MIDI ITSELF ({songs.label_derivation}): a model "
            "that follows them follows a rule about notes, and nothing here shows that anyone would feel it."
        )
    if songs.data_hash:
        sentences.append(
            "The model was trained with other manifests than these: "
            "whether it has not seen these songs is unknown."
        )
    if songs.twin_doubt:
        sentences.append(f"The twin is doubtful: {songs.twin_doubt}.")
    if data.missing_reason:
        sentences.append(f"Whether pieces are heard as asked is not measured: {data.missing_reason}.")
    elif data.source != "human":
        sentences.append(
            "No --human: the evaluators learned the held-out rows' own labels, whatever these are worth."
        )
    return " ".join(sentences)
