"""Planted generators: one that listens, and the cheats that the judge must catch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import once
import pytest
from symusic import Score
from toy_pieces import toy_labelled_pieces, toy_piece, toy_songs

from kwela.judge.midi import evaluators, quality, score_edits
from kwela.judge.midi import judge as midi
from kwela.judge.midi.effort import Effort
from kwela.judge.midi.emotion_grid import GridSize
from kwela.judge.midi.generation import GenerationRequest, PieceGenerator
from kwela.judge.midi.labelled_pieces import LabelledPieces
from kwela.judge.shared.scorecard import Scorecard

EFFORT = Effort(GridSize((-0.8, 0.8), (0.2, 1.0), 4, 4), 12, 1, 12, None, 1, 0)


def follow_emotion(requests: Sequence[GenerationRequest]) -> list[Score | None]:
    """Mode by valence, pace by arousal, at one tempo and velocity: nothing but its notes tells."""
    return [
        toy_piece(*np.nan_to_num(request.emotion[:2]), request.seed, request.bars, even=True)
        for request in requests
    ]


def scale_loudness_and_tempo(requests: Sequence[GenerationRequest]) -> list[Score | None]:
    """The same notes for any emotion; faster and louder with arousal, softer with valence."""
    out: list[Score | None] = []
    for request in requests:
        valence, arousal = np.nan_to_num(request.emotion[:2])
        plain = toy_piece(
            0.8 if request.seed % 2 else -0.8,
            0.8 if request.seed % 3 else -0.8,
            request.seed,
            request.bars,
            even=True,
        )
        out.append(
            score_edits.scale_tempo_and_velocity(
                plain, 2 ** (0.6 * arousal), 2 ** (0.8 * arousal - 0.1 * valence)
            )
        )
    return out


def scale_and_change_notes(requests: Sequence[GenerationRequest]) -> list[Score | None]:
    """As `loud`, with other notes each time, drawn without listening: flips alone don't show it."""
    out: list[Score | None] = []
    for number, request in enumerate(requests):
        arousal = float(np.nan_to_num(request.emotion[1]))
        side = np.random.default_rng([number, request.seed]).choice([-0.8, 0.8], 1)
        plain = toy_piece(side[0], 0.8, request.seed + 100_000 * number, request.bars, even=True)
        out.append(score_edits.scale_tempo_and_velocity(plain, 2 ** (0.8 * arousal), 2**arousal))
    return out


def judge_generator(
    make: PieceGenerator, folder: Path, seed: int = 0, other: PieceGenerator | None = None
) -> Scorecard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            evaluators, "BOOSTING_SEEDS", (0,)
        )  # the mean of three is steadier, and three times as slow
        return midi.judge_pieces(
            make, toy_songs(), toy_labelled_pieces(40, 5), EFFORT, folder, Scorecard("toy", seed=seed), other
        )


def figure(card: Scorecard, table: str, row: str) -> float:
    found = next(one for one in card.sections[table].rows if one.label == row)
    assert found.value is not None, found
    return found.value


@pytest.fixture(scope="module", autouse=True)
def shared_work(module_patch: pytest.MonkeyPatch) -> None:
    module_patch.setattr(evaluators, "MAX_FOLDS", 3)
    once.share(module_patch, evaluators, "fit_evaluator", "cross_validate", "measure_accuracy")
    once.share(module_patch, quality, "overlaps_with_held_out", "measure_pieces")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    return judge_generator(follow_emotion, tmp_path_factory.mktemp("honest"))


def test_a_generator_that_listens_is_heard_and_survives_flattening(honest: Scorecard) -> None:
    assert figure(honest, "evaluators", "symbolic: 4 quadrants, piece") > 0.8
    assert figure(honest, "grid_quadrant", "symbolic | model") > 0.7
    assert honest.verdicts["heard_as_asked"]["symbolic (flattened)"] == ["valence", "arousal"]
    assert honest.verdicts["only_tempo_and_velocity"] is False
    assert honest.verdicts["copies"] == 0


def test_the_same_pieces_against_shuffled_targets_score_by_chance(honest: Scorecard) -> None:
    assert figure(honest, "grid_quadrant", "symbolic | permuted targets") < 0.5
    assert abs(figure(honest, "grid_spearman_valence", "symbolic | permuted targets")) < 0.4


def test_a_twin_stands_in_every_table_and_a_model_no_better_than_its_twin_follows_nothing(
    honest: Scorecard, tmp_path: Path
) -> None:
    same = judge_generator(
        follow_emotion, tmp_path, other=follow_emotion
    )  # a twin that does as well: the labels taught nothing
    for table in ("grid_quadrant", "grid_mae_valence", "grid_spearman_arousal", "grid_slope_valence"):
        assert figure(same, table, "symbolic | shuffled-label twin") == figure(
            same, table, "symbolic | model"
        )
    assert honest.verdicts["heard_as_asked"]["symbolic"] == ["valence", "arousal"]
    assert same.verdicts["heard_as_asked"]["symbolic"] == []
    rows = [row.label for row in same.sections["flips_symbolic"].rows]
    assert "valence turned: judged valence | shuffled-label twin" in rows
    assert not any("twin" in row.label for row in honest.sections["grid_quadrant"].rows)
    assert "permuted targets are the only floor" in honest.sections["grid"].text


def test_flips_stand_beside_their_floor_the_rule_edit_and_what_real_music_does(honest: Scorecard) -> None:
    table = "flips_symbolic"
    turned = "valence turned: judged valence"
    assert figure(honest, table, f"{turned} | model") > 0.5
    assert abs(figure(honest, table, f"{turned} | same target, other seed (floor)")) < 0.3
    assert figure(honest, table, f"{turned} | rule edit") == pytest.approx(0, abs=1e-9)
    assert figure(honest, table, f"{turned} | real, held-out (ceiling)") > 0.5
    assert figure(honest, table, "arousal turned: judged arousal | rule edit") > 0.1
    flat = "flips_symbolic_flattened"
    assert figure(honest, flat, "arousal turned: judged arousal | rule edit") == pytest.approx(0, abs=1e-9)
    assert figure(honest, "flips", "arousal turned: tempo | rule edit") > 0.5


def test_a_flattened_evaluator_that_is_deaf_clears_nobody_and_accuses_nobody(tmp_path: Path) -> None:
    """Labels that only tempo and velocity tell: flattened, the evaluator knows nothing."""
    known = toy_labelled_pieces(40, 5)
    pieces = []
    for number, one in enumerate(known.pieces):
        even = toy_piece(0.8, 0.8, 500 + number, 8, even=True)
        pieces.append(
            replace(
                one,
                score=score_edits.scale_tempo_and_velocity(
                    even, 2 ** (0.5 * one.arousal), 2 ** (0.5 * one.arousal)
                ),
            )
        )
    card = midi.judge_pieces(
        scale_and_change_notes, toy_songs(), LabelledPieces(pieces), EFFORT, tmp_path, Scorecard("toy")
    )
    assert "arousal" in card.verdicts["heard_as_asked"]["symbolic"]
    assert card.verdicts["evaluators"]["symbolic (flattened)"] == []
    assert card.verdicts["only_tempo_and_velocity"].startswith("not measured")


@pytest.mark.parametrize("cheat", [scale_loudness_and_tempo, scale_and_change_notes])
def test_a_generator_that_only_scales_velocity_and_tempo_is_caught(
    cheat: PieceGenerator, tmp_path: Path
) -> None:
    card = judge_generator(cheat, tmp_path)
    assert figure(card, "grid_spearman_arousal", "symbolic | model") > 0.4  # it does fool the plain evaluator
    assert figure(card, "grid_spearman_arousal", "symbolic (flattened) | model") < 0.25
    assert card.verdicts["only_tempo_and_velocity"] is True


def test_constant_no_emotion_and_rule_edit_stand_beside_the_model_and_follow_nothing_they_cannot(
    honest: Scorecard,
) -> None:
    for rival in ("constant", "no emotion", "rule edit"):
        assert figure(honest, "grid_spearman_valence", f"symbolic | {rival}") == pytest.approx(0, abs=1e-9)
    assert figure(honest, "grid_quadrant", "symbolic | nearest training piece") > 0.7
    assert figure(honest, "grid_quadrant", "symbolic | real, held-out (ceiling)") > 0.7


def test_pieces_that_could_not_be_made_are_judged_the_worst_and_none_vanishes(tmp_path: Path) -> None:
    """Half the pieces missing: an average over the rest would look as good as the whole."""

    def halting(requests: Sequence[GenerationRequest]) -> list[Score | None]:
        made = follow_emotion(requests)
        return [one if number % 2 else Score(480) if number % 4 else None for number, one in enumerate(made)]

    card = judge_generator(halting, tmp_path)
    assert card.verdicts["valid_pieces"] == "16 of 32"
    assert figure(card, "grid_quadrant", "symbolic | model") <= 0.5
    assert figure(card, "grid_mae_arousal", "symbolic | model") > 0.9
    whole = {row.label: row.value for row in card.sections["quality"].rows}
    assert (whole["polyphony | generated"] or 0) < 0.7


def test_a_copied_training_piece_is_caught_in_another_key_tempo_and_velocity(tmp_path: Path) -> None:
    source = toy_songs().training[3]["score"]

    def copies(requests: Sequence[GenerationRequest]) -> list[Score | None]:
        made = follow_emotion(requests)
        stolen = score_edits.scale_tempo_and_velocity(score_edits.cut_excerpt(source, 4.0, 16.0), 1.3, 0.7)
        for track in stolen.tracks:
            for note in track.notes:
                note.pitch += 5
        return [stolen if request.seed == 5_003 else one for request, one in zip(requests, made, strict=True)]

    card = midi.judge_pieces(
        copies, toy_songs("so that no evaluator is needed"), None, EFFORT, tmp_path, Scorecard("toy")
    )
    assert card.verdicts["copies"] == 1
    assert card.extra_json["copies"][0]["training"] == toy_songs().training[3]["midi_path"]
    assert card.extra_json["copies"][0]["share"] == 1


def test_an_evaluator_of_shuffled_labels_is_refused_and_gives_no_number(tmp_path: Path) -> None:
    card = midi.judge_pieces(
        follow_emotion,
        toy_songs(),
        toy_labelled_pieces(48, 6, shuffled=True),
        EFFORT,
        tmp_path,
        Scorecard("toy"),
    )
    for table in ("grid_quadrant", "grid_spearman_valence", "grid_spearman_arousal"):
        for row in card.sections[table].rows:
            if row.label.startswith("symbolic | "):
                assert row.value is None and "refused" in row.note, row
    assert card.verdicts["evaluators"]["symbolic"] == [] and card.verdicts["heard_as_asked"]["symbolic"] == []


def test_labels_derived_from_the_midi_are_the_pages_first_line_and_train_no_evaluator(tmp_path: Path) -> None:
    card = midi.judge_pieces(
        follow_emotion, toy_songs("mode-and-tempo rule"), None, EFFORT, tmp_path, Scorecard("toy")
    )
    first = card.page().splitlines()[0]
    assert "DERIVED FROM THE MIDI ITSELF (mode-and-tempo rule)" in first and "not measured" in first
    assert card.sections["grid"].rows[-1].value is None
    assert "grid_quadrant" not in card.sections and card.verdicts["heard_as_asked"] == "not measured"
    assert card.sections["quality"].rows[0].value is not None  # what needs no labels is measured all the same


def test_labelled_pieces_that_the_model_trained_on_are_no_evidence(tmp_path: Path) -> None:
    known = toy_labelled_pieces(40, 5)
    mixed = toy_songs()
    mixed.training += [{**mixed.training[0], "score": one.score} for one in known.pieces]
    card = midi.judge_pieces(follow_emotion, mixed, known, EFFORT, tmp_path, Scorecard("toy"))
    assert "too few" in card.verdicts["evaluators"] and "grid_quadrant" not in card.sections
