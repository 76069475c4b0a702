"""Evaluators are judged on series they haven't seen; features are plain properties with known values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from symusic import Score
from toy_pieces import QUADRANTS, toy_labelled_pieces, toy_piece

from kwela.errors import UserError
from kwela.judge.midi import evaluators, labelled_pieces, rendering_features, score_edits, symbolic_features
from kwela.judge.midi.emotion_metrics import JudgedPieces, refusal_reason
from kwela.judge.midi.labelled_excerpts import LabelledExcerpts, cut_labelled_excerpts
from kwela.judge.midi.note_table import note_table
from kwela.music import midi, synth

FEATURES = 73


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of three is steadier, and three times as slow."""
    monkeypatch.setattr(evaluators, "BOOSTING_SEEDS", (0,))


def labelled_excerpts(series: int = 6) -> LabelledExcerpts:
    found = toy_labelled_pieces(48, series).pieces
    sides = np.array([(one.valence, one.arousal) for one in found])
    return cut_labelled_excerpts([one.score for one in found], sides, [one.series for one in found], 16, 1)


def test_symbolic_features_tell_the_toy_emotions_on_unseen_series() -> None:
    among = labelled_excerpts()
    accuracy = evaluators.measure_accuracy(
        evaluators.cross_validate(evaluators.read_symbolic_features(among.scores), among), among
    )
    assert accuracy.quadrant.value > 0.8 and accuracy.usable == (True, True)
    assert accuracy.majority_quadrant == 0.25 and accuracy.series == 6


def test_a_series_that_gives_itself_away_is_no_help_on_others() -> None:
    """A feature that names the series, where each series has one label: perfect by row, useless by series."""
    among = labelled_excerpts(8)
    sides = np.where(np.arange(8) % 2, 1.0, -1.0)[np.array([int(name[-1]) for name in among.series])]
    told = LabelledExcerpts(among.scores, among.piece_index, np.stack([sides, sides], 1), among.series)
    giveaway = np.array([[float(name[-1])] for name in among.series])
    assert (np.sign(evaluators.fit_evaluator(giveaway, told).judge(giveaway)) == told.labels).mean() == 1
    assert evaluators.measure_accuracy(evaluators.cross_validate(giveaway, told), told).quadrant.value < 0.7


def test_features_out_of_range_are_counted_on_either_side_and_not_those_that_are_unknown() -> None:
    judge = evaluators.Evaluator(np.full(4, 5.0), np.array([[0.0] * 4, [10.0] * 4]))
    features = np.array([[0, 5, 10, np.nan], [-1, 5, 5, 5], [11, 5, 5, 5], [-1, 11, -1, 11]])
    assert judge.out_of_range_share(features).tolist() == [0, 0.25, 0.25, 1]


def test_an_empty_piece_has_every_feature_by_name() -> None:
    some, none = (symbolic_features.features(note_table(s)) for s in (toy_piece(0.8, 0.8, 1), Score(480)))
    assert list(some) == list(none) and len(some) == FEATURES
    assert np.isfinite(list(some.values())).mean() > 0.9


def test_mode_pace_and_velocity_are_what_they_say() -> None:
    happy, sad = (
        symbolic_features.features(note_table(toy_piece(*q, 3, 16))) for q in (QUADRANTS[0], QUADRANTS[3])
    )
    assert happy["mode"] > 0 > sad["mode"] and happy["onset_rate"] > sad["onset_rate"]
    assert happy["tempo"] == pytest.approx(np.log2(130), abs=1e-3) and sad["tempo"] == pytest.approx(
        np.log2(80), abs=1e-3
    )
    assert happy["velocity_mean"] > sad["velocity_mean"]


def test_flattening_leaves_nothing_of_tempo_and_velocity_and_all_of_the_notes() -> None:
    plain = toy_piece(0.8, 0.8, 3)
    slow = score_edits.scale_tempo_and_velocity(plain, 0.5, 0.5)
    assert (
        score_edits.flatten_tempo_and_velocity(plain) == score_edits.flatten_tempo_and_velocity(slow)
        and plain != slow
    )
    assert (
        note_table(plain).onset_q == note_table(score_edits.flatten_tempo_and_velocity(plain)).onset_q
    ).all()


def test_an_excerpt_keeps_its_tempo_and_meter() -> None:
    whole = toy_piece(0.8, -0.8, 3, 8)
    part = note_table(score_edits.cut_excerpt(whole, 8, 16))
    assert part.bpm[-1] == pytest.approx(80, abs=0.01) and part.bar_q == 4 and part.quarters <= 16
    here = note_table(whole)
    assert (part.pitch == here.pitch[(here.onset_q >= 8) & (here.onset_q < 24)]).all()


def test_rendering_features_hear_pace_and_mode_and_not_the_score() -> None:
    heard = {q: rendering_features.features(*synth.render(toy_piece(*q, 5, 8))) for q in QUADRANTS}
    assert heard[QUADRANTS[0]]["attack_rate"] > heard[QUADRANTS[1]]["attack_rate"] + 0.3
    assert heard[QUADRANTS[0]]["mode"] > heard[QUADRANTS[2]]["mode"]


def test_silence_has_rendering_features_by_name_and_all_are_nan() -> None:
    found = rendering_features.features(np.zeros(44_100, np.float32), 44_100)
    assert tuple(found) == rendering_features.NAMES and np.isnan(list(found.values())).all()


def test_an_invalid_piece_is_as_wrong_as_can_be() -> None:
    targets = np.array([[0.8, -0.8], [-0.8, 0.8]])
    right = JudgedPieces(targets, targets, np.array([True, True]), [0, 1])
    wrong = JudgedPieces(targets, targets, np.array([True, False]), [0, 1])
    assert right.metric("quadrant").value == 1 and right.metric("mae_valence").value == 0
    assert wrong.metric("quadrant").value == 0.5 and wrong.metric("mae_valence").value == pytest.approx(0.9)


def test_a_refused_dimension_refuses_the_quadrant_too_and_not_the_other_dimension() -> None:
    of = JudgedPieces(
        np.tile(QUADRANTS, (3, 1)), np.tile(QUADRANTS, (3, 1)), np.ones(12, bool), [0, 1, 2] * 4
    )
    assert "valence from chance" in refusal_reason(0, (False, True)) and refusal_reason(None, (False, True))
    assert not refusal_reason(1, (False, True)) and of.metric("spearman_arousal").value == pytest.approx(1)


def write_vgmidi_folder(folder: Path, text: str, files: int = 2) -> Path:
    (folder / "midi").mkdir(parents=True)
    for number in range(files):
        midi.write(toy_piece(0.8, 0.8, number), folder / "midi" / f"{number}.mid")
    (folder / "labels.csv").write_text(text)
    return folder


HEAD = "file,series,game,piece,valence,arousal,labels\n"


def test_a_piece_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    found = labelled_pieces.read_labelled_pieces(
        write_vgmidi_folder(tmp_path / "v", HEAD + "0.mid,A,a,x,1,-1,1\ngone.mid,B,b,y,-1,0,1\n")
    )
    assert [one.name for one in found.pieces] == ["0.mid"] and "gone.mid" in found.left_out
    assert found.pieces[0].valence == 1 and found.pieces[0].series == "A"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,series,valence\n0.mid,A,1\n", "no column arousal"),
        (HEAD + "0.mid,A,a,x,high,1,1\n", "labels.csv:row 2: valence: 'high'"),
        (HEAD + "0.mid,A,a,x,2,1,1\n", "not a number from -1 to 1"),
        (HEAD + "gone.mid,A,a,x,1,1,1\n", "none of its 1 pieces"),
    ],
)
def test_bad_labels_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        labelled_pieces.read_labelled_pieces(write_vgmidi_folder(tmp_path / "v", text))
    assert said in str(error.value)
