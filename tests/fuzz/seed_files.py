"""Whole small files of each kind that kwela reads: what the mutator starts from."""

from __future__ import annotations

import functools
import io
import json
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]


def midi() -> dict[str, bytes]:
    """Pieces with tempos, meters, pedals and two tracks, from symusic and byte by byte."""
    from symusic import ControlChange, Note, Score, Tempo, TimeSignature, Track

    score = Score(480)
    score.tempos.append(Tempo(0, 120.0))
    score.time_signatures.append(TimeSignature(0, 3, 4))
    for program in (0, 40):
        track = Track(program=program)
        for k in range(24):
            track.notes.append(Note(240 * k, 200, 50 + k, 40 + 3 * k))
        track.controls.append(ControlChange(0, 64, 127))
        track.controls.append(ControlChange(1000, 64, 0))
        score.tracks.append(track)
    running = (
        b"\x00\xc0\x05\x00\x90\x3c\x40\x60\x3c\x00\x00\xf0\x03\x7e\x7f\xf7\x00\x90\x40\x40\x60\x80\x40\x00"
    )
    chunk = running + b"\x00\xff\x2f\x00"
    raw = b"MThd" + bytes((0, 0, 0, 6, 0, 0, 0, 1, 0, 96)) + b"MTrk" + len(chunk).to_bytes(4, "big") + chunk
    riff = (
        b"RIFF" + (len(raw) + 12).to_bytes(4, "little") + b"RMIDdata" + len(raw).to_bytes(4, "little") + raw
    )
    return {"score.mid": score.dumps_midi(), "running.mid": raw, "wrapped.rmi": riff}


def audio() -> dict[str, bytes]:
    """Two seconds of a falling tone in the formats that are read, mono and stereo."""
    rate = 44_100
    seconds = np.arange(2 * rate) / rate
    tone = (0.3 * np.sin(2 * np.pi * (440 * seconds - 40 * seconds**2))).astype(np.float32)
    stereo = np.stack([tone, -0.5 * tone])
    made = {}
    with io.BytesIO() as file:
        with wave.open(file, "wb") as out:
            out.setparams((2, 2, rate, 0, "NONE", ""))
            out.writeframes((stereo.T * 32767).astype("<i2").tobytes())
        made["tone.wav"] = file.getvalue()
    with io.BytesIO() as file:
        soundfile.write(file, stereo.T, rate, format="OGG", subtype="VORBIS")
        made["tone.ogg"] = file.getvalue()
    for name, codec in (
        ("tone.flac", "flac"),
        ("tone.mp3", "libmp3lame"),
        ("tone.opus", "libopus"),
        ("tone.m4a", "aac"),
        ("tone.aiff", "pcm_s16be"),
    ):
        made[name] = _encoded(name, codec, stereo, 48_000 if codec == "libopus" else rate)
    return made


def _encoded(name: str, codec: str, stereo: np.ndarray, rate: int) -> bytes:
    import av

    container = {"m4a": "mp4", "opus": "ogg"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    with io.BytesIO() as file:
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo), format="fltp", layout="stereo")
            frame.sample_rate = rate
            shape = av.AudioResampler(stream.codec_context.format, "stereo", rate)
            fifo = av.AudioFifo()
            for part in shape.resample(frame):
                fifo.write(part)
            size = stream.codec_context.frame_size or 4096
            while (block := fifo.read(size, partial=True)) is not None:
                out.mux(stream.encode(block))
            out.mux(stream.encode(None))
        return file.getvalue()


def archive() -> dict[str, bytes]:
    """A zip with stored and packed entries."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("a/one.mp3", bytes(range(256)) * 4)
            out.writestr("b/two.mp3", b"sound" * 300, zipfile.ZIP_DEFLATED)
            out.writestr("b/three.mp3", b"")
        return {"mp3.zip": file.getvalue()}


def csv() -> dict[str, bytes]:
    """Labels, MagnaTagATune's annotations, tags of a folder, artists."""
    annotations = "clip_id\tdrums\tbass\tmp3_path\n" + "".join(
        f'"{k}"\t"{k % 2}"\t"1"\t"f/artist-song-{k}.mp3"\n' for k in range(2, 12)
    )
    return {
        "labels.csv": b"stem,valence,arousal,intensity\none,0.5,-0.25,1\nhappy/two,-1,1,0\n",
        "annotations_final.csv": annotations.encode(),
        "tags.csv": b'file,artist,tags\none.wav,Ann,"house, deep"\ntwo.wav,Bea,drums\n',
        "artists.csv": b"file,artist\none.wav,Ann\ntwo.wav,Bea\n",
    }


def jsonl() -> dict[str, bytes]:
    """A manifest, a ledger and metrics."""
    row = {"midi_path": "one.mid", "emotion": [0.1, -0.5, 0.5], "emotion_source": "folder", "group": "one"}
    rows = [
        row,
        {**row, "context": {"key": 3, "density": [1, 2]}},
        {**row, "audio_path": "one.wav", "start": 0.5},
    ]
    metrics = [
        {"step": k, "epoch": 0, "split": "train", "loss": 3.0 / k, "val_loss": 3.5} for k in range(1, 9)
    ]
    return {
        "manifest.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in metrics).encode(),
    }


def settings() -> dict[str, bytes]:
    """The shipped YAML configs and the campaign's JSON."""
    shipped = [
        *sorted((ROOT / "training").rglob("*_training_config.yaml")),
        ROOT / "ai-service" / "config.json",
    ]
    return {path.name: path.read_bytes() for path in shipped}


@functools.cache
def campaign() -> dict[str, bytes]:
    """The ledger, state, status and metrics of a campaign that an earlier version of kwela ran."""
    names = ("ledger.jsonl", "orchestrator_state.json", "status.json", "run.json", "metrics.jsonl")
    return _recorded(lambda path: path.parent.name == "phase_2_5-rehearsal" and path.name in names)


def checkpoint() -> dict[str, bytes]:
    """Checkpoints of two families that an earlier version of kwela wrote."""
    held = ("checkpoints/midi_generator/last.pt", "checkpoints/spectocloud/last.pt")
    found = _recorded(lambda path: path.as_posix().endswith(held))
    return {f"{k}.pt": data for k, (_, data) in enumerate(sorted(found.items()))}


def _recorded(wanted: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(ROOT / "tests" / "recorded" / "files.tar.xz") as files:
        for member in files:
            path = PurePosixPath(member.name)
            if member.isfile() and wanted(path):
                content = files.extractfile(member)
                assert content is not None
                found["-".join(path.parts[-2:]) if path.suffix == ".pt" else path.name] = content.read()
    return found


KINDS: dict[str, Callable[[], dict[str, bytes]]] = {
    "midi": midi,
    "audio": audio,
    "archive": archive,
    "csv": csv,
    "jsonl": jsonl,
    "settings": settings,
    "campaign": campaign,
    "checkpoint": checkpoint,
}
