"""Judge whether a MIDI generator follows the emotion it is given, writes real music, and does not copy.

The page answers these questions in this order:

1. How good are the evaluators?
2. How much does the emotion help the model to predict held-out songs?
3. Do the evaluators hear the emotion that a generated piece was asked for? Rivals that cannot follow an
   emotion stand beside the model.
4. How much of that is left without tempo and velocity?
5. What changes when one dimension of the emotion changes?
6. Are the pieces like held-out music?
7. Are they copied from the training songs?

docs/judging/midi.md explains every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kwela import config
from kwela.errors import UserError
from kwela.judge.midi import page, page_music, page_turned_dimensions, shuffled_labels, teacher_forcing
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

    model: a checkpoint. manifest, training: JSONL files of the held-out and the training rows. These three
    have default paths, which None takes. human: a folder in VGMIDI's layout; the evaluators learn from it.
    twin_model: a checkpoint that was trained on shuffled labels (`shuffled_labels.write_shuffled_rows`).
    quick: fewer seeds and resamples. Raises UserError for bad input, and for a twin that was trained on the
    model's own manifests.
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
    songs.are_from_other_manifests = generators[MODEL].data_hash != songs.data_hash
    if twin_model:
        if generators[TWIN].data_hash == generators[MODEL].data_hash:
            raise UserError(
                f"--twin: {twin_model}: trained with the model's own manifests; a twin's labels are shuffled "
                "(kwela judge twin writes them)"
            )
        songs.reason_to_doubt_twin = shuffled_labels.reason_for_doubt(
            songs.training, generators[TWIN].manifest
        )
    card = Scorecard(TITLE, quick=quick, seed=seed, extra_json={"left_out": songs.left_out})
    if songs.held_out_song_count < MIN_HELD_OUT_SONGS:
        counted = f"{songs.held_out_song_count} held-out songs"
        card.refuse(f"{counted}; at least {MIN_HELD_OUT_SONGS} are needed")
        card.write(out, "midi")
        return card
    effort = QUICK_EFFORT if quick else FULL_EFFORT
    rows = songs.held_out[: effort.max_songs]
    average_emotion = mean_emotion(songs.training)
    nats = {
        name: teacher_forcing.measure_nats(
            generator.network, generator.window, rows, average_emotion, effort.shuffles, seed, effort.max_ids
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
    """Add the figures of generated pieces to `card`, and draw the pictures in `out`.

    generate may be any generator, so that tests can judge one that cheats. nats: for each system, the nats
    that the held-out songs cost it. Without them the page has no tables of nats.
    """
    bars = effort.grid.bars
    average_emotion = mean_emotion(songs.training)
    systems = generate_grid(generate, effort.grid, songs.training, average_emotion, card.seed, generate_twin)
    pieces_for_held_out = generate(held_out_requests(songs, effort, card.seed))
    data = choose_evaluator_data(labelled, songs, effort, card.seed)
    results = evaluate_systems(data, systems, card.seed)
    references = reference_excerpts(songs.held_out, bars, card.seed)

    card.warning = page_warning(songs, data)
    page.add_evaluators(card, results, data)
    if nats is not None:
        page.add_gain(card, nats, [row["group"] for row in songs.held_out[: effort.max_songs]], out)
    page.add_grid(card, results, systems, effort.grid, out)
    page_turned_dimensions.add_turned_dimensions(
        card, results, systems, [score for score, _ in references], out
    )
    page_music.add_quality(card, pieces_for_held_out, references, out)
    all_pieces = [*systems[MODEL].scores, *pieces_for_held_out]
    generated = [score for score in all_pieces if score is not None]
    page_music.add_memorisation(card, generated, references, songs.training, bars, out)
    card.verdicts = draw_verdicts(card, results, systems[MODEL], songs.label_derivation, data.missing_reason)
    card.extra_json["settings"] = {
        "values": effort.grid.values,
        "intensities": effort.grid.intensities,
        "seeds": effort.grid.seeds,
        "bars": bars,
        "quick": card.quick,
        "seed": card.seed,
    }
    card.extra_json["left_out"] = songs.left_out | (labelled.left_out if labelled else {})
    return card


def held_out_requests(songs: JudgedSongs, effort: Effort, seed: int) -> list[GenerationRequest]:
    """Request pieces with the emotions of held-out songs. The quality of the model is measured on them."""
    emotions = [tuple(row["emotion64"].tolist()) for row in songs.held_out]
    return [
        GenerationRequest(emotions[number % len(emotions)], seed * 10_000 + 5_000 + number, effort.grid.bars)
        for number in range(effort.quality_pieces)
    ]


def page_warning(songs: JudgedSongs, data: EvaluatorData) -> str:
    """Return the first line of the page. It says where the emotions come from and what is in doubt."""
    sentences = []
    if songs.label_derivation:
        sentences.append(
            f"The manifest's emotions are DERIVED FROM THE MIDI ITSELF ({songs.label_derivation}). A model "
            "that follows them follows a rule about notes. "
            "Nothing here shows that a listener would feel them."
        )
    if songs.are_from_other_manifests:
        sentences.append(
            "The model was trained with other manifests than these, so it may have seen these songs."
        )
    if songs.reason_to_doubt_twin:
        sentences.append(f"The twin is doubtful: {songs.reason_to_doubt_twin}.")
    if data.missing_reason:
        sentences.append(
            f"Whether the evaluators hear what was asked is not measured: {data.missing_reason}."
        )
    elif data.source != "human":
        sentences.append(
            "Without --human the evaluators learn the labels of the held-out rows, which may be wrong."
        )
    return " ".join(sentences)
