"""The grammar id by id, its tables read by a second interpreter, and its speed."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest

from kwela.music import tokens
from kwela.music.tokens import BAR, BEAT, BOS, EOS, PAD, Kind


def after(*ids):
    state = tokens.start()
    for token in ids:
        state = tokens.advance(state, token)
    return set(np.flatnonzero(tokens.allowed(state)).tolist())


PITCHES, VELOCITIES, FINE, SMALL = range(128), range(128, 160), range(200, 223), range(223, 254)
PROGRAM, PARTS, PEDALS = [*range(255, 271), 279], range(348, 356), (356, 357)
ITEMS = {*PROGRAM, *PARTS, *PEDALS, *PITCHES}
QUARTER = 223


def beats(first, last=3):
    return set(range(BEAT + first, BEAT + last + 1))


def test_every_id_has_one_kind():
    assert len(tokens.KIND_OF) == tokens.VOCAB == 388
    never = [i for i, kind in enumerate(tokens.KIND_OF) if kind is Kind.NEVER]
    assert never == [176, *range(358, 384)]
    ranges = sorted(tuple(ids) for kind in tokens.tables()["kinds"].values() for ids in kind)
    assert [first for first, _ in ranges] == [0, *(last + 1 for _, last in ranges[:-1])]
    assert ranges[-1][1] == 387


def test_a_song_begins_with_bos_and_ends_with_eos():
    assert after() == {BOS}
    assert after(BOS) == {BAR, EOS}
    assert after(BOS, EOS) == after(BOS, EOS, PAD) == {PAD}


def test_a_bar_may_change_the_meter_first():
    assert after(BOS, BAR) == {*range(328, 344), *beats(0), BAR}
    assert after(BOS, BAR, 331, 345) == {*beats(0), BAR}


def test_a_trailing_empty_bar_cannot_end_the_song():
    assert EOS not in after(BOS, BAR)
    assert EOS not in after(BOS, BAR, BEAT, 60, 130, QUARTER, BAR)
    assert EOS in after(BOS, BAR, BEAT, 60, 130, QUARTER)


@pytest.mark.parametrize(
    ("numerator", "denominators"), [(1, "2 4 8 16"), (8, "2 4 8 16"), (9, "4 8 16"), (16, "4 8 16")]
)
def test_meters_over_16_quarters_are_masked(numerator, denominators):
    assert after(BOS, BAR, 327 + numerator) == {
        344 + (2, 4, 8, 16).index(int(d)) for d in denominators.split()
    }


def test_positions_lie_inside_the_bar():
    assert after(BOS, BAR, 327 + 3, 344) == {*beats(0, 5), BAR}  # 3/2: six quarters
    assert after(BOS, BAR, 327 + 5, 347) == {*beats(0, 1), BAR}  # 5/16: a quarter and six ticks
    assert after(BOS, BAR, 327 + 5, 347, BEAT + 1) >= set(range(177, 182))
    assert not after(BOS, BAR, 327 + 5, 347, BEAT + 1) & set(range(182, 200))


def test_positions_ascend_strictly():
    assert after(BOS, BAR, BEAT) == {*range(177, 200), *range(280, 312), *ITEMS, *beats(0), BAR, EOS}
    in_beat_2 = (BOS, BAR, BEAT + 2, 180)
    assert after(*in_beat_2) & set(range(BEAT, BEAT + 16)) == beats(2)
    assert after(*in_beat_2, BEAT + 2) == set(
        range(181, 200)
    )  # the beat's own tick is past: a later SUB must follow
    assert after(BOS, BAR, BEAT + 2, 199) & set(range(BEAT, BEAT + 16)) == beats(3)
    assert not after(BOS, BAR, BEAT + 3, 199) & set(range(BEAT, BEAT + 16))
    assert after(*in_beat_2, BAR) & set(range(BEAT, BEAT + 16)) == beats(0)


def test_the_meter_persists():
    assert after(BOS, BAR, 327 + 2, 345, BAR) == {*range(328, 344), *beats(0, 1), BAR}


def test_a_note_is_written_whole():
    start = (BOS, BAR, BEAT)
    end = {*ITEMS, *beats(0), BAR, EOS}
    assert after(*start, 60) == set(VELOCITIES)
    assert after(*start, 60, 130) == {*FINE, *SMALL, 254}
    assert after(*start, 60, 130, 254) == {*FINE, *SMALL, 254, *end}
    assert after(*start, 60, 130, 254, 254) == {*FINE, *SMALL, 254, *end}
    assert after(*start, 60, 130, 224) == {*FINE, *end}  # a smaller coarse id comes last
    assert after(*start, 60, 130, 224, 201) == after(*start, 60, 130, 201) == end
    assert after(*start, 357) == end


def test_pairs_are_whole():
    start = (BOS, BAR, BEAT)
    assert after(*start, 255) == set(range(271, 279))
    assert after(*start, 255, 271) == after(*start, 279) == {*PARTS, *PEDALS, *PITCHES}
    assert after(*start, 348) == {*PEDALS, *PITCHES}
    assert after(*start, 280) == set(range(312, 328))
    assert after(*start, 280, 312) == {*ITEMS, *beats(0), BAR, EOS}


def test_advance_refuses_what_is_not_allowed():
    for refused in (60, 388, -1, 10**6):
        with pytest.raises(ValueError, match="can't follow"):
            tokens.advance(tokens.start(), refused)


def test_a_mask_is_the_callers_own():
    tokens.allowed(tokens.start())[:] = False
    assert tokens.allowed(tokens.start())[BOS]


def expression(text: str, **names: int) -> int:
    """The C++ of the tables, for numbers >= 0, in Python."""
    if "?" in text:
        condition, branches = text.split("?")
        yes, no = branches.split(":")
        text = f"({yes}) if ({condition}) else ({no})"
    return eval(text.replace("/", "//"), {}, names)


def test_the_tables_alone_give_the_same_grammar():
    """A host's interpreter of grammar.json walks at random beside ours."""
    tables = json.loads(json.dumps(tokens.tables()))
    kind_of = {
        i: kind for kind, ranges in tables["kinds"].items() for a, b in ranges for i in range(a, b + 1)
    }
    names = {name: name for name in tables["follows"]}

    def value(token, state, rule):
        return {**state, "value": expression(rule["value"], id=token)} if "value" in rule else state

    def host_allows(token, state):
        rule = tables["numeric"].get(kind_of[token], {})
        fits = kind_of[token] in tables["follows"][state["last"]]
        return fits and bool(expression(rule.get("allowed", "1"), **value(token, state, rule)))

    walk, checked = random.Random(1), 0
    for _ in range(12):
        ours, host = tokens.start(), dict(tables["start"])
        for _ in range(150):
            mask = tokens.allowed(ours)
            assert mask.tolist() == [host_allows(token, host) for token in range(tables["vocab"])]
            checked += 1
            choices = [t for t in np.flatnonzero(mask).tolist() if t != EOS] or [EOS]
            if walk.random() < 0.6:  # more positions and meters than notes, where the numbers matter
                choices = [t for t in choices if BEAT <= t < 200 or 328 <= t < 348] or choices
            token = walk.choice(choices)
            rule = tables["numeric"].get(kind_of[token], {})
            seen = value(token, host, rule)
            host = {**host, "last": kind_of[token]}
            for name, text in rule.get("update", {}).items():
                result = expression(text, **{**names, **host, "value": seen.get("value", 0)})
                host[name] = result
            ours = tokens.advance(ours, token)
            assert (ours.last.name, ours.numerator, ours.bar, ours.free) == tuple(
                host[k] for k in ours._fields
            )
    assert checked > 1000


def test_the_tokenizer_hash_follows_the_tables(monkeypatch):
    before = tokens.tokenizer_hash()
    assert before == tokens.tokenizer_hash()
    assert len(before) == 64
    monkeypatch.setattr("kwela.music.grammar.VERSION", 2)
    assert tokens.tokenizer_hash() != before


def test_a_step_of_the_grammar_costs_under_20_microseconds():
    song = [BOS, *[BAR, BEAT, 60, 130, QUARTER, BEAT + 1, 182, 279, 36, 130, 254, 205] * 200, BEAT + 2, EOS]
    best = float("inf")
    for _ in range(5):  # the best of five: others use this machine too
        began = time.perf_counter()
        state = tokens.start()
        for token in song:
            tokens.allowed(state)
            state = tokens.advance(state, token)
        best = min(best, time.perf_counter() - began)
    assert best / len(song) < 20e-6
