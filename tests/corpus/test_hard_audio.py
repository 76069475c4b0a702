"""Manifests and data sets of audio as the world makes it: each file is right, or left out by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from corpus_files import Tree, write_midi

import made_audio as made
from kwela.corpus.pairs import manifest
from kwela.corpus.tagged import dataset
from kwela.corpus.tagged.source import Source
from kwela.music import audio

TONE = made.tone(6.0)
BAD = np.where(np.arange(len(TONE)) == 100_000, np.nan, TONE).astype(np.float32)
FLAC = made.by_sndfile(TONE)
GOOD = {  # name -> bytes and seconds
    "open.wav": (made.wav(TONE, size=0x7FFF_FFFF), 6.0),
    "none.wav": (made.wav(TONE, size=0), 6.0),
    "open.flac": (made.flac_claiming(FLAC, 0), 6.0),
    "chained.ogg": (made.chained([made.by_sndfile(TONE, kind="OGG")] * 2), 12.0),
    "vbr.mp3": (made.mp3(TONE[:44_100], kbps=24, xing=False) + made.mp3(TONE, kbps=160, xing=False), 8.1),
    "turned.wav": (made.wav(np.stack([TONE, -TONE], 1)), 6.0),
}
LEFT_OUT = {
    "nan.wav": (made.wav(BAD, kind="<f4"), "its sample at 4.535 s is NaN or infinity"),
    "cut.flac": (FLAC[: len(FLAC) // 2], "truncated: its header claims 6.00 s"),
    "long.flac": (made.flac_claiming(FLAC, 600 * made.RATE), "truncated: its header claims 600.00 s"),
    "cut.wav": (made.wav(TONE)[:99_999], "truncated: its header claims 6.00 s"),
}


def level_file(audio_path, midi_path, emotion, offset, start, folder) -> str:
    """Stands for a cloud: the level of its segment."""
    wave = audio.load(audio_path, start, audio.SEGMENT / audio.SAMPLE_RATE)
    path = folder / f"{audio_path.name}-{start}.json"
    path.write_text(json.dumps([len(wave), float(np.abs(wave).max())]))
    return str(path)


def write(folder: Path, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, _) in (GOOD | LEFT_OUT).items():
        (folder / (prefix + name)).write_bytes(data)


def test_segments_lie_inside_what_decodes_and_the_rest_is_left_out_by_name(tree: Tree) -> None:
    for number, (name, (data, _)) in enumerate((GOOD | LEFT_OUT).items()):
        song = Path("happy", f"song {number}").with_suffix(Path(name).suffix)
        (tree.audio / song).parent.mkdir(parents=True, exist_ok=True)
        (tree.audio / song).write_bytes(data)
        write_midi(tree.midi / song.with_suffix(".mid"))
    names = {f"song {number}": name for number, name in enumerate(GOOD | LEFT_OUT)}
    how = {"make_cloud": level_file, "clouds_dir": tree.folder / "clouds", "segments": 3}
    report = manifest.build(tree.audio, tree.midi, tree.out, workers=1, quiet=True, **how)
    reasons = {names[Path(entry["file"]).stem]: entry["reason"] for entry in report.rejected}
    assert reasons.keys() == LEFT_OUT.keys()
    assert all(why in reasons[name] for name, (_, why) in LEFT_OUT.items())
    rows = [
        json.loads(line)
        for side in ("train", "val")
        for line in (tree.out / f"spectocloud_{side}.jsonl").read_text().splitlines()
    ]
    starts: dict[str, list[float]] = {name: [] for name in GOOD}
    for row in rows:
        starts[names[Path(row["audio_path"]).stem]].append(row["start"])
        length, level = json.loads(Path(row["target_pointcloud_path"]).read_text())
        assert length >= audio.SEGMENT - 44 and level > 0.1  # neither past the end nor silent
    for name, (_, seconds) in GOOD.items():
        room = seconds - audio.SEGMENT / audio.SAMPLE_RATE
        np.testing.assert_allclose(starts[name], [room / 6, room / 2, room * 5 / 6], atol=0.05)


def test_a_data_set_takes_and_leaves_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "in")
    source = Source((tmp_path / "in",))
    for name, (_, seconds) in GOOD.items():
        found = dataset.fetch(source, name, str(tmp_path / f"out-{name}"))
        assert abs(found["seconds"] - seconds) < 0.1
    for name, (_, why) in LEFT_OUT.items():
        found = dataset.fetch(source, name, str(tmp_path / f"out-{name}"))
        assert why in found["why"] and found["why"].startswith(name)
        assert not (tmp_path / f"out-{name}").exists()
