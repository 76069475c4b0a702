"""Features of made music are what they were when the judges were fitted and described.

The values in `known/recorded_features.json` were recorded and not worked out: they don't say what is right,
which test_known_answers.py does. They say that nothing moved. Evaluators and thresholds are fitted on these
features, so figures of two versions can be compared only while they stay. After a change that is meant,
record them anew by `python tests/judge/test_recorded_features.py`, and say in the changelog that figures from
before don't compare.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import made_music
import numpy as np
import pytest
from toy_pieces import toy_piece

from kwela.judge.authenticity import features as audio_features
from kwela.judge.authenticity import standard_form
from kwela.judge.damage import audio_metrics
from kwela.judge.midi import rendering_features, symbolic_features
from kwela.judge.midi.note_table import note_table
from kwela.judge.shared import copies

RECORDED = Path(__file__).with_name("known") / "recorded_features.json"
STYLES = ("log_drum", "house", "hip_hop", "fiddle")


def audio_values(style: str) -> dict[str, float]:
    """The audio features of a made clip."""
    values = audio_features.features(standard_form.standardise(made_music.clip(style, 5, 0)))
    return dict(zip(audio_features.NAMES, values.tolist(), strict=True))


def rendering_values(style: str) -> dict[str, float]:
    """The rendering features of a made clip, which is at 16 kHz."""
    return rendering_features.features(made_music.clip(style, 5, 0), 16_000)


def symbolic_values(mood: str) -> dict[str, float]:
    """The symbolic features of a toy piece in two tracks."""
    valence, arousal = {"happy": (0.8, 0.8), "sad": (-0.8, -0.8)}[mood]
    score = toy_piece(valence, arousal, 3, 8)
    score.tracks.append(toy_piece(valence, -arousal, 4, 8).tracks[0])
    return symbolic_features.features(note_table(score))


def damage_values(style: str) -> dict[str, float]:
    """What the damage judge measures of a made clip, as if it were at its own rate, and what two clips
    share.
    """
    wave = made_music.clip(style, 5, 0)
    power = audio_metrics.spectrum(wave)
    chroma = [copies.chroma_frames(made_music.clip(style, 5, take)[:60_000]) for take in (0, 1)]
    shared = copies.longest_shared_stretches(chroma[:1], chroma[1:])[0]
    looping = audio_metrics.looping_share(power)
    return {
        "highs": audio_metrics.highs(power) or 0.0,
        "looping": math.nan if looping is None else looping,
        "levels": float(audio_metrics._levels(power)[0].mean()),
        "chroma": float(chroma[0].mean()),
        "shared": shared.seconds,
        "shared from": shared.start,
    }


CASES = [
    *((f"audio {style}", audio_values, style) for style in STYLES),
    *((f"rendering {style}", rendering_values, style) for style in STYLES),
    *((f"symbolic {mood}", symbolic_values, mood) for mood in ("happy", "sad")),
    *((f"damage {style}", damage_values, style) for style in STYLES[:2]),
]


@pytest.mark.parametrize(("name", "values_of", "what"), CASES, ids=[case[0] for case in CASES])
def test_features_are_what_they_were(name, values_of, what) -> None:
    recorded = json.loads(RECORDED.read_text())[name]
    values = values_of(what)
    assert list(values) == list(recorded)
    before = np.array([math.nan if value is None else value for value in recorded.values()])
    moved = ~np.isclose(list(values.values()), before, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert not [name for name, differs in zip(values, moved, strict=True) if differs]


if __name__ == "__main__":
    written = {
        name: {key: None if math.isnan(value) else round(value, 6) for key, value in values_of(what).items()}
        for name, values_of, what in CASES
    }
    RECORDED.write_text(json.dumps(written, indent=1) + "\n")
