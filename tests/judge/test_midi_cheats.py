"""Planted generators: one that listens, and the cheats that the judge must catch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import once
import pytest
from symusic import Score
from toy_pieces import a_piece, labels, material

from kwela.judge.midi import evaluators, piece, quality
from kwela.judge.midi import judge as midi
from kwela.judge.midi.generation import Job, Maker
from kwela.judge.midi.grid import Size
from kwela.judge.midi.inputs import Effort, Labels
from kwela.judge.shared.scorecard import Scorecard

EFFORT = Effort(Size((-0.8, 0.8), (0.2, 1.0), 4, 4), 12, 1, 12, None, 1, 0)


def listens(jobs: Sequence[Job]) -> list[Score | None]:
    """Mode by valence, pace by arousal, at one tempo and velocity: nothing but its notes tells."""
    return [a_piece(*np.nan_to_num(job.emotion[:2]), job.seed, job.bars, even=True) for job in jobs]


def loud(jobs: Sequence[Job]) -> list[Score | None]:
    """The same notes for any emotion; faster and louder with arousal, softer with valence."""
    out: list[Score | None] = []
    for job in jobs:
        valence, arousal = np.nan_to_num(job.emotion[:2])
        plain = a_piece(
            0.8 if job.seed % 2 else -0.8, 0.8 if job.seed % 3 else -0.8, job.seed, job.bars, even=True
        )
        out.append(piece.edited(plain, 2 ** (0.6 * arousal), 2 ** (0.8 * arousal - 0.1 * valence)))
    return out


def jittery(jobs: Sequence[Job]) -> list[Score | None]:
    """As `loud`, with other notes each time, drawn without listening: flips alone don't show it."""
    out: list[Score | None] = []
    for number, job in enumerate(jobs):
        arousal = float(np.nan_to_num(job.emotion[1]))
        side = np.random.default_rng([number, job.seed]).choice([-0.8, 0.8], 1)
        plain = a_piece(side[0], 0.8, job.seed + 100_000 * number, job.bars, even=True)
        out.append(piece.edited(plain, 2 ** (0.8 * arousal), 2**arousal))
    return out


def judged(make: Maker, folder: Path, seed: int = 0, other: Maker | None = None) -> Scorecard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluators, "SEEDS", (0,))  # the mean of three is steadier, and three times as slow
        return midi.score(make, material(), labels(40, 5), EFFORT, folder, Scorecard("toy", seed=seed), other)


def value(card: Scorecard, table: str, row: str) -> float:
    found = next(one for one in card.sections[table].rows if one.label == row)
    assert found.value is not None, found
    return found.value


@pytest.fixture(scope="module", autouse=True)
def shared_work(module_patch: pytest.MonkeyPatch) -> None:
    module_patch.setattr(evaluators, "FOLDS", 3)
    once.share(module_patch, evaluators, "fit", "unseen", "standing")
    once.share(module_patch, quality, "overlaps", "statistics")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    return judged(listens, tmp_path_factory.mktemp("honest"))


def test_a_generator_that_listens_is_heard_and_survives_flattening(honest: Scorecard) -> None:
    assert value(honest, "evaluators", "symbolic: 4 quadrants, piece") > 0.8
    assert value(honest, "grid_quadrant", "symbolic | model") > 0.7
    assert honest.verdicts["heard_as_asked"]["symbolic (flattened)"] == ["valence", "arousal"]
    assert honest.verdicts["only_tempo_and_velocity"] is False
    assert honest.verdicts["copies"] == 0


def test_the_same_pieces_against_shuffled_targets_score_by_chance(honest: Scorecard) -> None:
    assert value(honest, "grid_quadrant", "symbolic | permuted targets") < 0.5
    assert abs(value(honest, "grid_spearman_valence", "symbolic | permuted targets")) < 0.4


def test_a_twin_stands_in_every_table_and_a_model_no_better_than_its_twin_follows_nothing(
    honest: Scorecard, tmp_path: Path
) -> None:
    same = judged(listens, tmp_path, other=listens)  # a twin that does as well: the labels taught nothing
    for table in ("grid_quadrant", "grid_mae_valence", "grid_spearman_arousal", "grid_slope_valence"):
        assert value(same, table, "symbolic | shuffled-label twin") == value(same, table, "symbolic | model")
    assert honest.verdicts["heard_as_asked"]["symbolic"] == ["valence", "arousal"]
    assert same.verdicts["heard_as_asked"]["symbolic"] == []
    rows = [row.label for row in same.sections["flips_symbolic"].rows]
    assert "valence turned: judged valence | shuffled-label twin" in rows
    assert not any("twin" in row.label for row in honest.sections["grid_quadrant"].rows)
    assert "permuted targets are the only floor" in honest.sections["grid"].text


def test_flips_stand_beside_their_floor_the_rule_edit_and_what_real_music_does(honest: Scorecard) -> None:
    table = "flips_symbolic"
    turned = "valence turned: judged valence"
    assert value(honest, table, f"{turned} | model") > 0.5
    assert abs(value(honest, table, f"{turned} | same target, other seed (floor)")) < 0.3
    assert value(honest, table, f"{turned} | rule edit") == pytest.approx(0, abs=1e-9)
    assert value(honest, table, f"{turned} | real, held-out (ceiling)") > 0.5
    assert value(honest, table, "arousal turned: judged arousal | rule edit") > 0.1
    flat = "flips_symbolic_flattened"
    assert value(honest, flat, "arousal turned: judged arousal | rule edit") == pytest.approx(0, abs=1e-9)
    assert value(honest, "flips", "arousal turned: tempo | rule edit") > 0.5


def test_a_flattened_evaluator_that_is_deaf_clears_nobody_and_accuses_nobody(tmp_path: Path) -> None:
    """Labels that only tempo and velocity tell: flattened, the evaluator knows nothing."""
    known = labels(40, 5)
    pieces = []
    for number, one in enumerate(known.pieces):
        even = a_piece(0.8, 0.8, 500 + number, 8, even=True)
        pieces.append(
            replace(one, score=piece.edited(even, 2 ** (0.5 * one.arousal), 2 ** (0.5 * one.arousal)))
        )
    card = midi.score(jittery, material(), Labels(pieces), EFFORT, tmp_path, Scorecard("toy"))
    assert "arousal" in card.verdicts["heard_as_asked"]["symbolic"]
    assert card.verdicts["evaluators"]["symbolic (flattened)"] == []
    assert card.verdicts["only_tempo_and_velocity"].startswith("not measured")


@pytest.mark.parametrize("cheat", [loud, jittery])
def test_a_generator_that_only_scales_velocity_and_tempo_is_caught(cheat: Maker, tmp_path: Path) -> None:
    card = judged(cheat, tmp_path)
    assert value(card, "grid_spearman_arousal", "symbolic | model") > 0.4  # it does fool the plain evaluator
    assert value(card, "grid_spearman_arousal", "symbolic (flattened) | model") < 0.25
    assert card.verdicts["only_tempo_and_velocity"] is True


def test_constant_no_emotion_and_rule_edit_stand_beside_the_model_and_follow_nothing_they_cannot(
    honest: Scorecard,
) -> None:
    for rival in ("constant", "no emotion", "rule edit"):
        assert value(honest, "grid_spearman_valence", f"symbolic | {rival}") == pytest.approx(0, abs=1e-9)
    assert value(honest, "grid_quadrant", "symbolic | nearest training piece") > 0.7
    assert value(honest, "grid_quadrant", "symbolic | real, held-out (ceiling)") > 0.7


def test_pieces_that_could_not_be_made_are_judged_the_worst_and_none_vanishes(tmp_path: Path) -> None:
    """Half the pieces missing: an average over the rest would look as good as the whole."""

    def halting(jobs: Sequence[Job]) -> list[Score | None]:
        made = listens(jobs)
        return [one if number % 2 else Score(480) if number % 4 else None for number, one in enumerate(made)]

    card = judged(halting, tmp_path)
    assert card.verdicts["valid_pieces"] == "16 of 32"
    assert value(card, "grid_quadrant", "symbolic | model") <= 0.5
    assert value(card, "grid_mae_arousal", "symbolic | model") > 0.9
    whole = {row.label: row.value for row in card.sections["quality"].rows}
    assert (whole["polyphony | generated"] or 0) < 0.7


def test_a_copied_training_piece_is_caught_in_another_key_tempo_and_velocity(tmp_path: Path) -> None:
    source = material().training[3]["score"]

    def copies(jobs: Sequence[Job]) -> list[Score | None]:
        made = listens(jobs)
        stolen = piece.edited(piece.excerpt(source, 4.0, 16.0), 1.3, 0.7)
        for track in stolen.tracks:
            for note in track.notes:
                note.pitch += 5
        return [stolen if job.seed == 5_003 else one for job, one in zip(jobs, made, strict=True)]

    card = midi.score(
        copies, material("so that no evaluator is needed"), None, EFFORT, tmp_path, Scorecard("toy")
    )
    assert card.verdicts["copies"] == 1
    assert card.extra_json["copies"][0]["training"] == material().training[3]["midi_path"]
    assert card.extra_json["copies"][0]["share"] == 1


def test_an_evaluator_of_shuffled_labels_is_refused_and_gives_no_number(tmp_path: Path) -> None:
    card = midi.score(listens, material(), labels(48, 6, shuffled=True), EFFORT, tmp_path, Scorecard("toy"))
    for table in ("grid_quadrant", "grid_spearman_valence", "grid_spearman_arousal"):
        for row in card.sections[table].rows:
            if row.label.startswith("symbolic | "):
                assert row.value is None and "refused" in row.note, row
    assert card.verdicts["evaluators"]["symbolic"] == [] and card.verdicts["heard_as_asked"]["symbolic"] == []


def test_labels_derived_from_the_midi_are_the_pages_first_line_and_train_no_evaluator(tmp_path: Path) -> None:
    card = midi.score(listens, material("mode-and-tempo rule"), None, EFFORT, tmp_path, Scorecard("toy"))
    first = card.page().splitlines()[0]
    assert "DERIVED FROM THE MIDI ITSELF (mode-and-tempo rule)" in first and "not measured" in first
    assert card.sections["grid"].rows[-1].value is None
    assert "grid_quadrant" not in card.sections and card.verdicts["heard_as_asked"] == "not measured"
    assert card.sections["quality"].rows[0].value is not None  # what needs no labels is measured all the same


def test_labelled_pieces_that_the_model_trained_on_are_no_evidence(tmp_path: Path) -> None:
    known = labels(40, 5)
    mixed = material()
    mixed.training += [{**mixed.training[0], "score": one.score} for one in known.pieces]
    card = midi.score(listens, mixed, known, EFFORT, tmp_path, Scorecard("toy"))
    assert "too few" in card.verdicts["evaluators"] and "grid_quadrant" not in card.sections
