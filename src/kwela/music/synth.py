"""Render MIDI as audio, by midirenderer with the TimGM6mb soundfont of pretty_midi.

Both come with the `demo` extra and need nothing from the system. The soundfont is GPL-2, so kwela reads it
where pip installed it, and neither copies nor ships it (see THIRD_PARTY.md).
"""

from __future__ import annotations

import functools
import importlib.util
import io
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import soxr
from symusic.core import ScoreSecond, ScoreTick

from kwela import files
from kwela.errors import UserError

RATE = 44_100  # Hz; kwela.music.audio reads at the same rate, so training does not resample
PEAK = 0.8  # of full scale (-1.9 dBFS): the value of the loudest sample of a render
MISSING = "rendering MIDI needs the demo extra: pip install 'kwela[demo]'"


def render(score: ScoreTick) -> tuple[np.ndarray, int]:
    """Render `score` as (mono float32 in [-0.8, 0.8], 44100); the same score gives the same samples.

    The audio begins at tick 0 and ends with the last note, to the sample.
    Raises UserError if the extra is not installed or there are no notes.
    """
    try:
        import midirenderer
    except ImportError:
        raise UserError(MISSING) from None
    timed = cast(ScoreSecond, score.to("second"))
    ends = [note.end for track in timed.tracks for note in track.notes]
    if not ends:
        raise UserError("this score: no notes to render")
    wav = midirenderer.render_wave_from(_soundfont(), score.dumps_midi())
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    audio = soxr.resample(samples.mean(axis=1), rate, RATE)
    length = round(max(ends) * RATE)
    audio = np.pad(audio[:length], (0, max(0, length - len(audio))))  # the tail of the reverb is cut
    loudest = float(np.abs(audio).max())
    return np.clip(audio * np.float32(PEAK / max(loudest, 1e-9)), -PEAK, PEAK).astype(np.float32), RATE


@functools.cache
def _soundfont() -> bytes:
    return soundfont_path().read_bytes()


def soundfont_path() -> Path:
    """Return the path of TimGM6mb.sf2 in pretty_midi, without importing it. Raises UserError without it."""
    package = importlib.util.find_spec("pretty_midi")
    path = Path(package.origin).parent / "TimGM6mb.sf2" if package and package.origin else None
    if path is None or not path.is_file():
        raise UserError(MISSING)
    return path


def write(path: Path, audio: np.ndarray) -> None:
    """Write mono float audio in [-1, 1] as a 16-bit WAV at 44.1 kHz. Raises as `files.write`."""
    wav = io.BytesIO()
    soundfile.write(wav, audio, RATE, subtype="PCM_16", format="WAV")
    files.write(path, wav.getvalue(), durable=False, hint="")
