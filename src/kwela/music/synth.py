"""MIDI to audio: midirenderer (a synthesiser in a wheel) with the TimGM6mb soundfont that pretty_midi carries.

Both come with the `demo` extra and need nothing from the system. The soundfont is GPL-2 and is read where pip put it:
kwela neither copies nor ships it (see THIRD_PARTY.md).
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

RATE = 44_100  # Hz; kwela.music.audio reads at the same rate, so that training need not resample
PEAK = 0.8  # of full scale: what the loudest sample of a render is brought to (-1.9 dBFS)
MISSING = "rendering MIDI needs the demo extra: pip install 'kwela[demo]'"


def render(score: ScoreTick) -> tuple[np.ndarray, int]:
    """Play `score`: (mono float32 in [-0.8, 0.8], 44100). The same score gives the same samples.

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
    audio = np.pad(audio[:length], (0, max(0, length - len(audio))))  # the reverb's tail belongs to no note
    loudest = float(np.abs(audio).max())
    return np.clip(audio * np.float32(PEAK / max(loudest, 1e-9)), -PEAK, PEAK).astype(np.float32), RATE


@functools.cache
def _soundfont() -> bytes:
    return soundfont_path().read_bytes()


def soundfont_path() -> Path:
    """TimGM6mb.sf2 inside the pretty_midi wheel, found without importing it. Raises UserError if it isn't there."""
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin).parent / "TimGM6mb.sf2" if found and found.origin else None
    if path is None or not path.is_file():
        raise UserError(MISSING)
    return path


def write(path: Path, audio: np.ndarray) -> None:
    """Write mono float audio in [-1, 1] as a 16-bit WAV at 44.1 kHz. Raises as `files.write`."""
    wav = io.BytesIO()
    soundfile.write(wav, audio, RATE, subtype="PCM_16", format="WAV")
    files.write(path, wav.getvalue(), durable=False, hint="")
