"""Read a file of each kind as the commands do. Each function raises KwelaError for what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np


def midi(path: Path, out: Path) -> None:
    """As `tokens check`, `encode` and `decode`, and Spectocloud's features."""
    from kwela.music import fidelity, tokens
    from kwela.music import midi as midi_files

    score = midi_files.read(path)
    fidelity.loss_report(score)
    midi_files.write(tokens.decode(tokens.encode(score)), out / "back.mid")
    midi_files.features(score, 0.5, 1.5)


def audio(path: Path, out: Path) -> None:
    """As `manifests`, Spectocloud's training and the judges."""
    from kwela.judge.shared import clips
    from kwela.music import audio as sound

    sound.probe(path)
    seconds = sound.duration(path)
    wave = sound.load(path, 0.3 * seconds, sound.SEGMENT / sound.SAMPLE_RATE)[: sound.SEGMENT]
    sound.log_mel(np.pad(wave, (0, sound.SEGMENT - len(wave))))
    clips.load_middle(path)


def archive(path: Path, out: Path) -> None:
    """As `dataset magnatagatune`, from one file and from three parts of it."""
    from kwela.corpus.tagged.archive import Archive, find_parts

    data = path.read_bytes()
    parts = [out / f"mp3.zip.{k:03}" for k in (1, 2, 3)]
    third = len(data) // 3 + 1
    for k, part in enumerate(parts):
        part.write_bytes(data[k * third : (k + 1) * third])
    for files in ([path], find_parts(out)):
        opened = Archive(files)
        try:
            for name in opened.entries:
                opened.read(name)
        finally:
            opened.close()


def csv(path: Path, out: Path) -> None:
    """As labels, annotations, tags of a folder, or artists, by the file's name."""
    from kwela.corpus.pairs import labels
    from kwela.corpus.tagged import folder, magnatagatune
    from kwela.judge.shared import clips

    if path.name.endswith("labels.csv"):
        labels.read_labels(path)
    elif path.name.endswith("annotations_final.csv"):
        place = out / "annotations_final.csv"
        place.write_bytes(path.read_bytes())
        magnatagatune.read(out, ["drums", "bass"])
    elif path.name.endswith("tags.csv"):
        for name in ("one.wav", "two.wav"):
            (out / name).touch()
        folder.read(out, path)
    else:
        clips.read_artists(path)


def jsonl(path: Path, out: Path) -> None:
    """As a manifest that is trained on, and as a training's metrics."""
    from kwela import tables
    from kwela.corpus.pairs import rows

    for name in ("one.mid", "one.wav"):
        (path.parent / name).touch()
    tables.read_jsonl(path, "metrics")
    if path.name.endswith("manifest.jsonl"):
        rows.read(path, ["midi_path", "emotion"])


def settings(path: Path, out: Path) -> None:
    """As `train --config` and `campaign --config`."""
    from kwela import config, families, playbook

    if path.suffix == ".json":
        playbook.load(path)
    else:
        command = "spectocloud" if "spectocloud" in path.name else "midi"
        config.load(families.by_command(command).config, path)


def campaign(path: Path, out: Path) -> None:
    """As `campaign status`, in a folder whose other files are whole."""
    import seed_files

    from kwela import playbook
    from kwela.campaign.run import campaign_state

    name = path.name.partition("-")[2]
    for other, data in seed_files.campaign().items():
        (out / other).write_bytes(path.read_bytes() if other == name else data)
    settings_read = playbook.load(None)
    campaign_state.read_state(out, settings_read)
    campaign_state.read_state_file(out)


def checkpoint(path: Path, out: Path) -> None:
    """As a resume and an export. Every second file carries the hash that fits it, as an attacker's does."""
    from kwela import families
    from kwela.engine import checkpoint as checkpoints

    data = path.read_bytes()
    if hashlib.sha256(data).digest()[0] % 2:
        path.write_bytes(_sealed(data))
    state = checkpoints.load(path)
    families.named(state["family"]).rebuild(path, state)


def _sealed(data: bytes) -> bytes:
    """The file with a checksum that fits its content: the last 77 bytes are its comment, before them two
    bytes of its length.
    """
    body, tail = data[:-79], data[-79:]
    digest = hashlib.sha256(body + b"\0\0").hexdigest().encode()
    return body + tail[:2] + b"kwela-sha256:" + digest


READERS: dict[str, Callable[[Path, Path], None]] = {
    "midi": midi,
    "audio": audio,
    "archive": archive,
    "csv": csv,
    "jsonl": jsonl,
    "settings": settings,
    "campaign": campaign,
    "checkpoint": checkpoint,
}
