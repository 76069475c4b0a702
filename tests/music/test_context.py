"""Keys and chords read off notes: known answers, and transposition as a property."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_score import score_of

from kwela.errors import UserError
from kwela.music import beat_grid, chords, written_context
from kwela.music.chords import QUALITIES, TONES
from kwela.music.context import CONTEXT_VERSION, measure

Q = 480
NAMES = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
ROOTS = {name: number + 1 for number, name in enumerate(NAMES)}


def quality(name):
    return QUALITIES.index(name) + 1


def chord(name):
    """ "A:min" as [root, quality], both from 1."""
    root, _, kind = name.partition(":")
    return [ROOTS[root], quality(kind or "maj")]


def block(name, at, length, velocity=80):
    """A chord in quarters `at` to `at + length`: its root an octave below, then its tones from C4 up."""
    root, kind = chord(name)
    tones = [(root - 1 + tone) % 12 for tone in TONES[kind - 1]]
    notes = [(at * Q, length * Q, 36 + tones[0], velocity)]
    return notes + [(at * Q, length * Q, 60 + tone, velocity) for tone in tones]


def song(*bars, quarters=4, start=0, **more):
    """One chord a bar, or two of half a bar ("C G")."""
    notes = []
    for bar, names in enumerate(bars):
        names = names.split()
        length = quarters / len(names)
        for place, name in enumerate(names):
            notes += block(name, start + bar * quarters + place * length, length)
    notes = [(int(time), int(duration), pitch, velocity) for time, duration, pitch, velocity in notes]
    return score_of((0, notes), **more)


def test_a_cadence_in_c_major():
    context = measure(song("C", "F", "G:7", "C")).context()
    assert context["key"] == 1
    assert context["chords"] == [chord("C"), chord("F"), chord("G:7"), chord("C")]
    assert context["mode"] == [1, 1, 1, 1]


def test_a_cadence_in_a_minor_is_not_its_relative_major():
    context = measure(song("A:min", "D:min", "E:7", "A:min")).context()
    assert context["key"] == 12 + ROOTS["A"]
    assert context["mode"] == [2, 2, 2, 2]
    assert [root for root, _ in context["chords"]] == [ROOTS[name] for name in ("A", "D", "E", "A")]


@pytest.mark.parametrize("kind", QUALITIES)
def test_every_quality_is_found_where_it_stands_in_root_position(kind):
    context = measure(song(f"Eb:{kind}", f"Eb:{kind}", f"Eb:{kind}", f"Eb:{kind}")).context()
    assert context["chords"] == [chord(f"Eb:{kind}")] * 4


def test_two_chords_a_bar_stand_with_their_quarters():
    context = measure(song("C", "F G", "C", "F G", "C")).context()
    assert context["chords"][1] == [[0, *chord("F")], [2, *chord("G")]]
    assert context["chords"][2] == chord("C")


def test_a_modulation_is_written_where_it_happens():
    first = ["C", "F", "G:7", "C", "A:min", "D:min", "G:7", "C"] * 2
    second = ["E", "A", "B:7", "E", "Db:min", "Gb:min", "B:7", "E"] * 2
    context = measure(song(*first, *second)).context()
    assert [key for _, key in context["key"]] == [ROOTS["C"], ROOTS["E"]]
    assert abs(context["key"][1][0] - 16) <= 1


def test_without_a_modulation_the_key_is_one_number():
    assert measure(song(*["C", "F", "G:7", "C", "A:min", "D:min", "G:7", "C"] * 4)).context()["key"] == 1


def test_a_pickup_bar_of_its_own_meter_counts_as_bar_0():
    pickup = [(0, Q, 67, 80)]
    bars = song("C", "F", "G", "C", start=1)
    notes = pickup + [(n.time, n.duration, n.pitch, n.velocity) for n in bars.tracks[0].notes]
    context = measure(score_of((0, notes), meters=[(0, 1, 4), (Q, 4, 4)])).context()
    assert len(context["chords"]) == 5
    assert context["chords"][1:] == [chord("C"), chord("F"), chord("G"), chord("C")]


def test_before_the_music_begins_in_a_bar_there_is_no_chord():
    context = measure(song("C", "F", "G", "C", start=6)).context()
    assert context["chords"][0] == [0, 0]
    assert context["chords"][1] == [[2, *chord("C")]]


def test_empty_bars_have_no_chord():
    notes = block("C", 0, 4) + block("F", 4, 4) + block("G", 16, 4) + block("C", 20, 4)
    context = measure(score_of((0, notes))).context()
    assert context["chords"] == [chord("C"), chord("F"), [0, 0], [0, 0], chord("G"), chord("C")]
    assert context["key"] == 1


def test_drums_alone_have_neither_key_nor_chords():
    drums = [(quarter * Q // 2, 60, 36, 90) for quarter in range(32)]
    measured = measure(score_of(("drums", drums)))
    assert measured.context() == {}
    assert measured.raw["density"].tolist() == [2.0] * 4


def test_drums_change_neither_key_nor_chords():
    plain = song("C", "F", "G:7", "C")
    notes = [(n.time, n.duration, n.pitch, n.velocity) for n in plain.tracks[0].notes]
    drums = [(quarter * Q // 2, 4 * Q, pitch, 127) for quarter in range(32) for pitch in (30, 34, 37)]
    assert measure(score_of((0, notes), ("drums", drums))).context() == measure(plain).context()
    # The same notes as pitches do change them.
    assert measure(score_of((0, notes), (0, drums))).context() != measure(plain).context()


def test_a_score_without_notes_has_no_context():
    assert measure(score_of()).context() == {}
    assert measure(score_of()).bars == 0


def test_in_six_eight_the_second_chord_stands_on_quarter_one_and_a_half():
    score = song("C", "F G", "C", "F G", "C", "C", quarters=3, meters=[(0, 6, 8)])
    context = measure(score).context()
    assert context["chords"][1] == [[0, *chord("F")], [1.5, *chord("G")]]
    assert len(context["chords"]) == 6


def test_chords_follow_a_change_of_meter():
    notes = block("C", 0, 4) + block("F", 4, 3) + block("G", 7, 3) + block("C", 10, 3)
    context = measure(score_of((0, notes), meters=[(0, 4, 4), (4 * Q, 3, 4)])).context()
    assert context["chords"] == [chord("C"), chord("F"), chord("G"), chord("C")]


def test_a_chord_that_is_held_goes_on():
    notes = block("C", 0, 8) + block("F", 8, 8) + [(15 * Q, Q, 77, 80)]
    context = measure(score_of((0, notes))).context()
    assert context["chords"] == [chord("C"), chord("C"), chord("F"), chord("F")]


progressions = st.lists(
    st.sampled_from(
        ["C", "F", "G", "A:min", "D:min", "E:min", "G:7", "C:maj7", "B:dim", "Bb", "F G", "C A:min"]
    ),
    min_size=4,
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(progressions, st.integers(-12, 12))
def test_a_transposed_song_has_the_transposed_key_and_chords(names, semitones):
    score = song(*names)
    moved = score.shift_pitch(semitones)
    before, after = measure(score), measure(moved)
    expected = np.where(
        before.key > 0, (before.key - 1) // 12 * 12 + (before.key - 1 + semitones) % 12 + 1, 0
    )
    assert after.key.tolist() == expected.tolist()
    roots = np.where(before.chords[:, 2] > 0, (before.chords[:, 2] - 1 + semitones) % 12 + 1, 0)
    assert after.chords[:, 2].tolist() == roots.tolist()
    assert after.chords[:, [0, 1, 3]].tolist() == before.chords[:, [0, 1, 3]].tolist()


def test_one_moved_note_breaks_the_transposition():
    score = song("C", "F", "G", "C")
    moved = score.shift_pitch(2)
    for note in moved.tracks[0].notes:
        note.pitch += 1 if note.pitch % 12 == 6 else 0
    assert measure(moved).context()["chords"] != measure(score.shift_pitch(2)).context()["chords"]


@settings(max_examples=25, deadline=None)
@given(progressions)
def test_what_is_read_passes_the_check_and_comes_back_from_json(names):
    measured = measure(song(*names))
    context = json.loads(json.dumps(measured.context()))
    written_context.check(context, measured.bars)
    assert written_context.by_bar(context, measured.bars)["key"].tolist() == measured.key.tolist()
    laid = written_context.chord_changes(context, measured.bars)
    for bar, tick, *what in measured.chords.tolist():
        rows = laid[(laid[:, 0] < bar) | (laid[:, 0] == bar) & (laid[:, 1] <= tick)]
        assert rows[-1, 2:].tolist() == what


def test_very_many_bars_are_read_as_far_as_the_cap():
    notes = block("C", 0, 4) + block("F", 4, 4) + block("G", 8, 4) + block("C", 12, 4)
    score = score_of((0, [*notes, (40_000 * Q, Q, 60, 80)]))
    measured = measure(score)
    assert measured.bars == 10_001
    assert measured.context()["chords"][:4] == [chord("C"), chord("F"), chord("G"), chord("C")]


def test_beyond_the_cap_there_is_neither_key_nor_chord(monkeypatch):
    monkeypatch.setattr(beat_grid, "MAX_BEATS", 8)
    measured = measure(song("C", "F", "G", "C"))
    assert measured.key.tolist()[2:] == [0, 0]
    assert measured.context()["chords"] == [chord("C"), chord("F")]
    assert measured.raw["density"].tolist() == [0.25] * 4


def test_a_score_with_negative_times_is_refused():
    score = song("C")
    score.tracks[0].notes[0].time = -5
    with pytest.raises(UserError, match="out of range"):
        measure(score)


# The coefficients of each version: other ones give other contexts, so they need another number.
COEFFICIENTS = {1: "ebdb1f24b72a6812629d275b2ad5780cb3cb23da39d4fb746870e8205275e99f"}


def test_other_coefficients_need_another_version():
    stored = (Path(chords.__file__).parent / "harmony.json").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == COEFFICIENTS[CONTEXT_VERSION]
