"""The middle of a clip is the middle of what decodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

import made_audio as made
from kwela.judge.shared import clips
from kwela.music import audio

TONE = made.tone(16.0, 44_100)


@pytest.mark.parametrize(
    ("name", "data"),
    [  # an MP3 that a header makes three times as long, and recordings of open length
        (
            "slow start.mp3",
            made.mp3(TONE[:44_100], 44_100, 32, False) + made.mp3(TONE[44_100:], 44_100, 320, False),
        ),
        ("open.wav", made.wav(TONE, 44_100, size=0x7FFF_FFFF)),
        ("open.flac", made.flac_claiming(made.by_sndfile(TONE, 44_100), 0)),
        ("long.flac", made.flac_claiming(made.by_sndfile(TONE, 44_100), 2**30)),
    ],
)
def test_the_middle_is_that_of_the_sound(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    whole = audio.load(tmp_path / name)
    begin = (len(whole) - 441_000) // 2
    middle = clips.load_middle(tmp_path / name)
    assert len(middle) == 160_000
    expected = soxr.resample(whole[begin : begin + 441_000], 44_100, 16_000)
    np.testing.assert_allclose(middle[800:-800], expected[800:-800], atol=0.02)
