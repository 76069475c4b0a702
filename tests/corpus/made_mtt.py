"""A collection in MagnaTagATune's form: annotations, artists, and short real MP3s in a zip of three parts."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import av
import numpy as np

from kwela import playbook
from kwela.corpus.tagged.dataset import Choice

SHIPPED = playbook.load()
GROUPS, NEGATIVES = SHIPPED.proxy_groups, SHIPPED.negative_tags

TAGS = [
    *[
        "drum",
        "drums",
        "beat",
        "upbeat",
        "techno",
        "electronic",
        "house",
        "dance",
        "piano",
        "organ",
        "jazz",
        "bass",
        "deep",
        "funky",
        "mellow",
        "ambient",
    ],
    *["instrumental", "repetitive", "slow", "guitar", "violin", "choir"],
    *("no piano", "no beat", "no drums", "fast beat"),
]


def chosen(**how) -> Choice:
    """What the shipped config and the command's defaults choose, but for `how`."""
    usual = {"weights": {}, "at_least": 3, "limit": 8000, "per_artist": 150, "seed": 42}
    return Choice(groups=GROUPS, negatives=NEGATIVES, **usual | how)


def mp3(seconds: float = 1.5, hertz: float = 220.0) -> bytes:
    """A plucked tone as MTT's clips are: mono, 16 kHz, 32 kbit/s."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    return encode((0.4 * np.exp(-3 * (t % 0.5)) * np.sin(2 * np.pi * hertz * t)).astype(np.float32))


def encode(wave: np.ndarray) -> bytes:
    """float32 samples at 16 kHz as MP3 at 32 kbit/s."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("mp3", rate=16_000, layout="mono", bit_rate=32_000)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def name_of(index: int, artists: int = 8) -> str:
    return f"{index % 16:x}/artist_{index % artists}-album-{index:02}-song-0-29.mp3"


def tags_of(index: int) -> list[str]:
    """From 0 to 6 of TAGS, the same for the same index."""
    rng = np.random.default_rng(index)
    return [TAGS[k] for k in sorted(rng.choice(len(TAGS), index % 7, replace=False))]


def annotate(
    folder: Path, rows: list[tuple[str, str, list[str]]], tags: tuple[str, ...] | list[str] = TAGS
) -> None:
    """annotations_final.csv of rows (clip_id, path, tags)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "annotations_final.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(["clip_id", *tags, "mp3_path"])
        writer.writerows([clip_id, *(int(tag in held) for tag in tags), path] for clip_id, path, held in rows)


def zip_in_parts(folder: Path, contents: dict[str, bytes], parts: int = 3) -> list[Path]:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    data = whole.getvalue()
    size = -(-len(data) // parts)
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(parts):
        made.append(folder / f"mp3.zip.{number + 1:03}")
        made[-1].write_bytes(data[number * size : (number + 1) * size])
    return made


def make(folder: Path, clips: int = 40, broken: int = 3) -> Path:
    """A whole collection; the last `broken` clips are a zero-byte file, text, and half a clip in turn.

    Each artist plays four tones, a little out of tune with the others, so that no two have the same sound.
    """
    sounds = {
        (artist, tone): mp3(1.5, 110 * 2 ** ((tone + 0.02 * artist) / 12))
        for artist in range(8)
        for tone in range(4)
    }
    bad = [b"", b"not sound\n" * 300, sounds[0, 0][:200]]
    contents = {
        name_of(k): bad[(clips - 1 - k) % 3]
        if k >= clips - broken
        else sounds[k % 8, k // 8 % 4] + b"\0" * (k % 3)
        for k in range(clips)
    }
    annotate(folder, [(str(k + 2), name_of(k), tags_of(k)) for k in range(clips)])
    zip_in_parts(folder, contents)
    return folder
