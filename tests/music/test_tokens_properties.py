"""The codec's promises for scores of every kind, against a second encoder written as plain loops."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from symusic import ControlChange, Note, Score, Tempo, TimeSignature, Track

from kwela.music import tokens
from kwela.music.tokens import BAR, BEAT, BOS, EOS

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def scores(draw) -> Score:
    """Several tracks, few pitches (so that they collide), odd resolutions, changes of tempo and meter
    anywhere.
    """
    tpq = draw(st.sampled_from([24, 1, 5, 96, 120, 480, 1024]))
    # Times crowd around quarters, ticks of 1/24 and their halves, where rounding decides.
    grid = st.integers(0, 12 * 48).map(lambda i: i * tpq // 48)
    times = st.one_of(grid, st.integers(0, 12 * tpq))
    lengths = st.one_of(grid, st.integers(0, 3 * tpq), st.integers(0, 100 * tpq))
    notes = st.builds(Note, times, lengths, st.sampled_from([60, 61, 0, 127]), st.integers(1, 127))
    pedals = st.builds(
        ControlChange, times, st.sampled_from([64, 64, 64, 7]), st.sampled_from([0, 63, 64, 127])
    )
    score = Score(tpq)
    for program in draw(st.lists(st.sampled_from([0, 0, 1, 127, "drums"]), max_size=5)):
        track = Track("", 0 if program == "drums" else program, program == "drums")
        for note in draw(st.lists(notes, max_size=8)):
            track.notes.append(note)
        for pedal in draw(st.lists(pedals, max_size=6)):
            track.controls.append(pedal)
        score.tracks.append(track)
    for time, mspq in draw(st.lists(st.tuples(times, st.integers(150_000, 3_500_000)), max_size=4)):
        score.tempos.append(Tempo(time, mspq=mspq))
    meters = st.tuples(times, st.integers(0, 18), st.sampled_from([1, 2, 4, 8, 16, 32]))
    for meter in draw(st.lists(meters, max_size=4)):
        score.time_signatures.append(TimeSignature(*meter))
    return score


def nearest_tick(time: int, tpq: int) -> int:
    return math.floor(24 * time / tpq + 0.5)


def plain_notes(score: Score) -> list[tuple[tuple[int, int], int, int, int, int]]:
    """((program, part), pitch, tick, duration, velocity bin) of what the contract keeps, unsorted."""
    strings = defaultdict(dict)
    parts: dict[int, int] = defaultdict(int)
    for track in score.tracks:
        if not len(track.notes):
            continue
        program = 128 if track.is_drum else track.program
        voice = (program, parts[program])
        parts[program] += 1
        if voice[1] > 7:
            continue
        for note in track.notes:
            tick = nearest_tick(note.time, score.tpq)
            length = max(nearest_tick(note.time + note.duration, score.tpq) - tick, 1)
            string = strings[voice, note.pitch]
            string[tick] = max(string.get(tick, (0, 0)), (length, note.velocity))
    kept = []
    for (voice, pitch), string in strings.items():
        onsets = sorted(string)
        for onset, following in zip(onsets, [*onsets[1:], math.inf], strict=True):
            length, velocity = string[onset]
            kept.append((voice, pitch, onset, min(length, following - onset), velocity // 4))
    return kept


def plain_encode(score: Score) -> list[int]:
    """The contract read aloud, event by event."""
    events = defaultdict(list)  # tick -> (program, part, kind, pitch, velocity, ids)
    for (program, part), pitch, tick, length, velocity in plain_notes(score):
        longest, rest = divmod(length, 768)
        coarse, fine = divmod(rest, 24)
        durations = [254] * longest + [222 + coarse] * (coarse > 0) + [199 + fine] * (fine > 0)
        events[tick].append((program, part, 2, pitch, velocity, [pitch, 128 + velocity, *durations]))
    parts: dict[int, int] = defaultdict(int)
    for track in score.tracks:
        if not len(track.notes):
            continue
        program = 128 if track.is_drum else track.program
        part = parts[program]
        parts[program] += 1
        moves = defaultdict(list)
        for control in sorted(track.controls, key=lambda control: control.time):
            if control.number == 64:
                moves[nearest_tick(control.time, score.tpq)].append(control.value >= 64)
        down = False
        for tick in sorted(moves):
            if down and not all(moves[tick]):
                events[tick].append((program, part, 0, 0, 0, [357]))
                down = False
            if not down and moves[tick][-1]:
                events[tick].append((program, part, 1, 0, 0, [356]))
                down = True
    tempo_at = {}
    for tempo in sorted(score.tempos, key=lambda tempo: tempo.time):
        bpm = min(max(6e7 / tempo.mspq, 20), 320)
        tempo_at[nearest_tick(tempo.time, score.tpq)] = round(511 * math.log(bpm / 20, 16))
    tempos, current = {}, round(511 * math.log(120 / 20, 16))
    for tick in sorted(tempo_at):
        if tempo_at[tick] != current:
            current = tempos[tick] = tempo_at[tick]
    meters = {}
    for meter in sorted(score.time_signatures, key=lambda meter: meter.time):
        n, d = meter.numerator, meter.denominator
        fine = d in (2, 4, 8, 16) and 1 <= n <= 16 and 4 * n <= 16 * d
        meters[nearest_tick(meter.time, score.tpq)] = (n, d) if fine else (4, 4)

    end = max([*events, *tempos], default=-1)
    ids, bar, meter, program, part = [BOS], 0, (4, 4), 0, 0
    while bar <= end:
        ids.append(BAR)
        new = next((meters[tick] for tick in sorted(meters, reverse=True) if tick <= bar), (4, 4))
        if new != meter:
            meter = new
            ids += [327 + meter[0], {2: 344, 4: 345, 8: 346, 16: 347}[meter[1]]]
        length = 96 * meter[0] // meter[1]
        for tick in range(bar, bar + length):
            if tick not in events and tick not in tempos:
                continue
            ids += [BEAT + (tick - bar) // 24] + [176 + (tick - bar) % 24] * ((tick - bar) % 24 > 0)
            if tick in tempos:
                ids += [280 + tempos[tick] // 16, 312 + tempos[tick] % 16]
            for new_program, new_part, *_, event in sorted(events[tick]):
                if new_program != program:
                    ids += [279] if new_program == 128 else [255 + new_program // 8, 271 + new_program % 8]
                if new_part != part:
                    ids.append(348 + new_part)
                program, part = new_program, new_part
                ids += event
        bar += length
    return [*ids, EOS]


@RELAXED
@given(scores())
def test_encode_is_the_contract_read_aloud(score):
    assert tokens.encode(score).tolist() == plain_encode(score)


@RELAXED
@given(scores())
def test_encode_decode_encode_is_encode_also_through_a_file(score):
    ids = tokens.encode(score)
    decoded = tokens.decode(ids)
    assert np.array_equal(tokens.encode(decoded), ids)
    assert np.array_equal(tokens.encode(Score.from_midi(decoded.dumps_midi())), ids)


def accepted(ids) -> bool:
    state = tokens.start()
    for token in ids:
        if not tokens.allowed(state)[token]:
            return False
        state = tokens.advance(state, token)
    return state.last is tokens.Kind.EOS


@RELAXED
@given(scores(), st.randoms(use_true_random=False))
def test_the_grammar_accepts_what_is_encoded_and_not_its_corruptions(score, random):
    ids = tokens.encode(score).tolist()
    assert accepted(ids)
    assert not accepted(
        ids[:-1]
    )  # the negative controls: an end cut off, a beat moved back, a bar's id doubled
    beats = [i for i, token in enumerate(ids) if tokens.KIND_OF[token] is tokens.Kind.BEAT]
    if beats:
        at = random.choice(beats)
        position = ids[at : at + 2] if 177 <= ids[at + 1] < 200 else ids[at : at + 1]
        assert not accepted([*ids[:at], *position, *ids[at:]])
        assert not accepted([*ids[: at + 1], 176, *ids[at + 1 :]])


@RELAXED
@given(scores())
def test_bounds_hold_note_by_note(score):
    decoded = tokens.decode(tokens.encode(score))
    report = tokens.loss_report(score)
    assert report["onset_error"] <= 1 / 48 + 1e-12
    assert report["duration_error"] <= 1 / 24 + 1e-12
    assert report["velocity_error"] <= 2
    assert report["tempo_error"] <= 0.003
    originals = defaultdict(list)
    for track in score.tracks:
        for n in track.notes:
            originals[track.is_drum, track.program, n.pitch].append(
                (n.time / score.tpq, n.duration / score.tpq, n.velocity)
            )
    shortened = 0
    for track in decoded.tracks:
        for n in track.notes:
            near = [
                n.duration / 24 - length
                for onset, length, velocity in originals[track.is_drum, track.program, n.pitch]
                if abs(onset - n.time / 24) <= 1 / 48 + 1e-12 and abs(velocity - n.velocity) <= 2
            ]
            assert near
            shortened += min(map(abs, near)) > 1 / 24 + 1e-12
            assert min(near) <= 1 / 24 + 1e-12
    assert shortened <= report["notes_cut"]
    kept = sum(len(track.notes) for track in decoded.tracks)
    assert kept == report["notes"] - report["notes_same_onset"] - report["notes_over_8"]


def is_valid(score: Score) -> bool:
    """Every value fits MIDI, and the score is the same after a trip through a file."""
    for track in score.tracks:
        assert 0 <= track.program < 128
        assert all(
            n.time >= 0 and n.duration > 0 and 0 <= n.pitch < 128 and 0 < n.velocity < 128
            for n in track.notes
        )
    back = Score.from_midi(score.dumps_midi())

    def facts(s: Score):
        return [(t.program, t.is_drum, list(t.notes), list(t.controls)) for t in s.tracks if len(t.notes)]

    return facts(back) == facts(score) and list(back.tempos) == list(score.tempos)


@RELAXED
@given(st.lists(st.integers(-3, 400), max_size=60))
def test_decode_gives_a_valid_score_for_any_ids(ids):
    assert is_valid(tokens.decode(ids))


@RELAXED
@given(scores(), st.data())
def test_decode_gives_a_valid_score_for_damaged_songs(score, data):
    ids = tokens.encode(score).tolist()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(ids)))
        ids[at : at + data.draw(st.integers(0, 3))] = data.draw(st.lists(st.integers(0, 387), max_size=2))
    decoded = tokens.decode(ids)
    assert is_valid(decoded)
    again = tokens.encode(decoded)
    assert np.array_equal(tokens.encode(Score.from_midi(decoded.dumps_midi())), again)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(20, 200))
def test_a_random_walk_under_allowed_is_music(random, length):
    state, ids = tokens.start(), []
    while state.last is not tokens.Kind.EOS:
        may = tokens.allowed(state)
        assert may.any()
        assert not may[[176, *range(358, 385)]].any()
        token = EOS if len(ids) > length and may[EOS] else random.choice(np.flatnonzero(may).tolist())
        ids.append(token)
        state = tokens.advance(state, token)
    decoded = tokens.decode(ids)
    assert is_valid(decoded)
    # Nothing is skipped: each note that was written sounds, but for overlaps of one pitch.
    written = sum(tokens.KIND_OF[token] is tokens.Kind.PITCH for token in ids)
    assert tokens.loss_report(decoded)["notes"] <= written
    assert accepted(tokens.encode(decoded))


def test_the_comparison_would_notice_a_tick():
    """The negative control of these tests: one note a tick later has other ids."""
    score = Score(24)
    track = Track("", 0, False)
    track.notes.append(Note(5, 5, 60, 64))
    score.tracks.append(track)
    moved = score.shift_time(1)
    assert tokens.encode(score).tolist() == plain_encode(score) != plain_encode(moved)
