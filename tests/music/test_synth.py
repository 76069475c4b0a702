"""The synthesiser: audio as long as the MIDI, at a sane level, the same each time, and one clear line
without it.
"""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import soundfile
import symusic

from kwela.errors import UserError
from kwela.music import synth


def melody(seconds: float, program: int = 73, voices: int = 1) -> symusic.Score:
    """A rising scale at 120 BPM, in quarters of half a second."""
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120.0))
    for voice in range(voices):
        track = symusic.Track("", program, False)
        track.notes.extend(
            [symusic.Note(480 * i, 480, 60 + i % 12 + 4 * voice, 127) for i in range(int(2 * seconds))]
        )
        score.tracks.append(track)
    return score


@pytest.fixture(scope="module")
def flute() -> np.ndarray:
    return synth.render(melody(3))[0]


def test_audio_ends_with_the_last_note(flute: np.ndarray) -> None:
    assert len(flute) == 3 * synth.RATE


def test_a_note_sounds_when_the_score_says_and_not_before() -> None:
    score = symusic.Score(480)
    track = symusic.Track("", 0, False)
    track.notes.append(symusic.Note(960, 480, 60, 100))
    score.tracks.append(track)
    audio, rate = synth.render(score)
    loud = np.flatnonzero(np.abs(audio) > 0.05)
    assert 1.0 <= loud[0] / rate < 1.05


def test_the_pitch_is_the_written_one(flute: np.ndarray) -> None:
    spectrum = np.abs(np.fft.rfft(flute[4410:17640] * np.hanning(13230)))
    loudest = spectrum.argmax() * synth.RATE / 13230
    assert min(abs(loudest / (261.63 * harmonic) - 1) for harmonic in (1, 2, 3)) < 0.03


@pytest.mark.parametrize("voices", [1, 12])
def test_one_voice_is_not_faint_and_twelve_do_not_clip(voices: int) -> None:
    audio, _ = synth.render(melody(2, program=61, voices=voices))
    assert np.abs(audio).max() == pytest.approx(synth.PEAK, abs=1e-3)
    assert audio.dtype == np.float32 and audio.ndim == 1


def test_the_same_midi_gives_the_same_samples(flute: np.ndarray) -> None:
    assert np.array_equal(flute, synth.render(melody(3))[0])
    assert not np.array_equal(flute, synth.render(melody(3, program=40))[0])  # negative control: a violin


def test_what_is_written_is_what_was_rendered(tmp_path: Path, flute: np.ndarray) -> None:
    synth.write(tmp_path / "new" / "scale.wav", flute)
    written, rate = soundfile.read(tmp_path / "new" / "scale.wav", dtype="float32")
    assert rate == 44_100
    assert np.abs(written - flute).max() < 1e-4
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["scale.wav"]


def test_a_score_without_notes_is_refused() -> None:
    silent = symusic.Score(480)
    silent.tracks.append(symusic.Track("", 0, False))
    with pytest.raises(UserError, match="no notes"):
        synth.render(silent)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> object:
        if name == "midirenderer":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'kwela\[demo\]'"):
        synth.render(melody(1))
