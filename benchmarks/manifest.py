"""Pairs a second that become manifest rows: found, opened, checked, split and written, on all cores of this
machine.

One-minute pieces: 44.1 kHz mono 16-bit WAV and a MIDI file of ~500 notes in three tracks. No peer does this.
The rate with --align is printed below it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from symusic.core import NoteTick, ScoreTick, TempoTick, TrackTick

import common
from kwela.corpus.pairs import manifest

PAIRS, ALIGNED, DISTINCT = 3000, 120, 12
RATE, MINUTE = 44_100, 60


def write_pieces(folder: Path, pairs: int) -> None:
    """`pairs` pairs under folder/audio and folder/midi; the WAVs are hard links to DISTINCT files."""
    emotions = ("happy", "calm", "sad", "angry")
    for number in range(pairs):
        rng = np.random.default_rng(number % DISTINCT)
        names = [folder / kind / emotions[number % 4] / f"track{number:05}" for kind in ("audio", "midi")]
        for name in names:
            name.parent.mkdir(parents=True, exist_ok=True)
        onsets = np.sort(rng.uniform(0, MINUTE - 1, 500))
        pitches = rng.integers(36, 84, 500)
        wav, midi = names[0].with_suffix(".wav"), names[1].with_suffix(".mid")
        if number < DISTINCT:
            soundfile.write(wav, _plucks(onsets, pitches), RATE, "PCM_16")
        else:
            os.link(
                folder / "audio" / emotions[number % DISTINCT % 4] / f"track{number % DISTINCT:05}.wav", wav
            )
        _score(onsets, pitches).dump_midi(midi)


def _plucks(onsets: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    out = np.zeros(MINUTE * RATE)
    moment = np.arange(RATE // 2) / RATE
    for onset, pitch in zip(onsets, pitches, strict=True):
        at = round(onset * RATE)
        out[at : at + len(moment)] += np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * moment) * np.exp(
            -6 * moment
        )
    return (out / np.abs(out).max() * 0.8).astype(np.float32)


def _score(onsets: np.ndarray, pitches: np.ndarray) -> ScoreTick:
    score = ScoreTick(480)
    score.tempos.append(TempoTick(0, 120))
    for part in range(3):
        track = TrackTick(f"part {part}", part * 8, False)
        for onset, pitch in zip(onsets[part::3], pitches[part::3], strict=True):
            track.notes.append(NoteTick(round(onset * 960), 480, int(pitch), 80))
        score.tracks.append(track)
    return score


def rate(folder: Path, pairs: int, align: bool) -> float:
    """Pairs a second of one build from nothing: scan, worker start-up, opening and writing."""
    began = time.perf_counter()
    report = manifest.build(folder / "audio", folder / "midi", folder / f"out{align}", align=align)
    seconds = time.perf_counter() - began
    assert report.counts["kept"] == pairs, report.rejected[:3]
    return pairs / seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        plain, aligned = Path(name, "plain"), Path(name, "aligned")
        write_pieces(plain, PAIRS)
        write_pieces(aligned, ALIGNED)
        common.write(
            "manifest",
            ours=rate(plain, PAIRS, False),
            peer=None,
            unit="pairs/s",
            peer_name=None,
            peer_version=None,
        )
        print(f"with --align: {rate(aligned, ALIGNED, True):.1f} pairs/s")


if __name__ == "__main__":
    main()
