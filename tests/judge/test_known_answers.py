"""The judges' feature values against known answers: made inputs in `known/*.json`, and what is right for
them.

A file holds cases. Each names a function of one of MODULES, its input, and the expected values, which are
worked out by hand or by another definition than the code's; `how` says which. A value is a number, null
(NaN), or an arithmetic expression that shows how it came about, for example "log2(5 / 4)". The tolerance is
1e-5 unless a case, or a value as {"is", "within"}, says otherwise.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import statistics
from pathlib import Path
from typing import Any

import made_sounds
import numpy as np
import pytest
from symusic import Note, Score, Tempo, TimeSignature, Track

from kwela.judge.midi.note_table import NoteTable, note_table

MODULES = {
    "symbolic_features": "kwela.judge.midi.symbolic_features",
    "key_profiles": "kwela.judge.midi.key_profiles",
    "rendering_features": "kwela.judge.midi.rendering_features",
    "audio_features": "kwela.judge.authenticity.features",
    "audio_rhythm": "kwela.judge.authenticity.rhythm",
}
KNOWN = Path(__file__).with_name("known")
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(KNOWN.glob("*.json"))
    for case in json.loads(path.read_text()).get("cases", [])
]
PROFILES = json.loads((KNOWN / "key_profiles.json").read_text())["profiles"]


def made_piece(
    notes: list[list[float]], bpm: float = 60, meter: tuple[int, int] = (4, 4), **more: Any
) -> NoteTable:
    """notes: [onset, length, pitch, velocity, track]; the last two may be left out. Onsets and lengths are
    quarters.

    drums: onsets. tempos: [onset, bpm], instead of one `bpm`.
    """
    score = Score(480)
    for onset, tempo in more.get("tempos", [[0, bpm]]):
        score.tempos.append(Tempo(round(onset * 480), tempo))
    score.time_signatures.append(TimeSignature(0, *meter))
    tracks = [
        Track("", 0, False)
        for _ in range(1 + max((int(note[4]) for note in notes if len(note) > 4), default=0))
    ]
    for onset, length, pitch, *rest in notes:
        velocity, track = (*rest, *(64, 0)[len(rest) :])
        tracks[int(track)].notes.append(
            Note(round(onset * 480), round(length * 480), int(pitch), int(velocity))
        )
    drums = Track("", 0, True)
    for onset in more.get("drums", []):
        drums.notes.append(Note(round(onset * 480), 10, 36, 100))
    for track in (*tracks, drums):
        score.tracks.append(track)
    return note_table(score)


def key_match(weights: list[float], mode: str) -> float:
    """The best correlation of the weights of the pitch classes, C first, with the profile of a major or
    minor key.
    """
    turned = [PROFILES[mode][-tonic:] + PROFILES[mode][:-tonic] for tonic in range(12)]
    return max(statistics.correlation(weights, profile) for profile in turned)


def bits(*weights: float) -> float:
    """Shannon entropy, from its definition."""
    return -sum(w / sum(weights) * math.log2(w / sum(weights)) for w in weights if w)


def line_slope(x: list[float], y: list[float]) -> float:
    """Change of y along the line of least squares, from the least to the greatest x."""
    return statistics.linear_regression(x, y).slope * (max(x) - min(x))


WORDS = {
    "key_match": key_match,
    "bits": bits,
    "line_slope": line_slope,
    "mean": lambda *values: statistics.fmean(values),
    "std": lambda *values: statistics.pstdev(values),
    **{name: getattr(math, name) for name in ("log2", "log10", "log", "sqrt", "exp", "pi", "erf", "erfc")},
}


def value_of(expected: float | str | None) -> float:
    """The number that a fixture's expression stands for."""
    if expected is None:
        return math.nan
    return float(eval(expected, {"__builtins__": {}}, WORDS)) if isinstance(expected, str) else expected


def made_array(description: Any) -> Any:
    """An argument: a list is an array; {"length", "pulses", "sines"} a series of frames, 100 a second.

    pulses: [first, every, height] in frames. sines: [Hz, amplitude].
    """
    if isinstance(description, list):
        return np.array(description)
    if not isinstance(description, dict):
        return description
    series = np.zeros(description["length"])
    for first, every, height in description.get("pulses", []):
        series[first::every] += height
    for hertz, amplitude in description.get("sines", []):
        series += amplitude * np.sin(2 * np.pi * hertz * np.arange(len(series)) / 100)
    return series


def answer_to(case: dict[str, Any]) -> Any:
    """What the function of a case says of its input; numbers without a name get the names that their module
    lists.
    """
    module_name, name = case["function"].split(".")
    module = importlib.import_module(MODULES[module_name])
    arguments = {key: made_array(value) for key, value in case.get("arguments", {}).items()}
    first = [made_piece(**case["notes"])] if "notes" in case else []
    first += [made_sounds.made_wave(**case["sound"])] if "sound" in case else []
    answer = getattr(module, name)(*first, **arguments)
    if dataclasses.is_dataclass(answer):
        return vars(answer)
    named = isinstance(case["expected"], dict) and not isinstance(answer, dict)
    return dict(zip(module.NAMES, answer, strict=True)) if named else answer


def differences(answer: Any, expected: Any, within: float) -> dict[str, tuple[float, float]]:
    """{place: (answer, expected)} of what differs by more than `within`. A dict of expected values may be a
    part.
    """
    if isinstance(expected, dict) and expected.keys() == {"is", "within"}:
        expected, within = expected["is"], expected["within"]
    if isinstance(expected, dict | list):
        places = expected if isinstance(expected, dict) else range(len(expected))
        assert isinstance(expected, dict) or len(answer) == len(expected)
        inner = {key: differences(answer[key], expected[key], within) for key in places}
        return {
            f"{key} {place}".strip(): pair for key, found in inner.items() for place, pair in found.items()
        }
    right = value_of(expected)
    return {} if answer == pytest.approx(right, abs=within, rel=0, nan_ok=True) else {"": (answer, right)}


@pytest.mark.parametrize("case", CASES)
def test_a_feature_has_its_known_value(case: dict[str, Any]) -> None:
    assert differences(answer_to(case), case["expected"], case.get("within", 1e-5)) == {}


def test_a_value_that_differs_is_noticed_wherever_it_stands() -> None:
    """The negative control."""
    answer = {"a": 1.0, "b": [2.0, math.nan], "c": 0.0}
    assert differences(answer, {"a": 1.0, "b": ["1 + 1", None]}, 0.1) == {}
    assert differences(answer, {"a": 1.2, "b": [2.2, 1.0]}, 0.1).keys() == {"a", "b 0", "b 1"}
