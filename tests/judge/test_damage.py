"""The damage judge finds what was broken on purpose, finds nothing where nothing was, and catches copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import once
import pytest
import soundfile
import soxr

from kwela.errors import UserError
from kwela.judge.damage import audio_metrics
from kwela.judge.damage import judge as damage
from kwela.judge.shared import copies
from kwela.judge.shared.scorecard import Scorecard

RATE = 32_000
SECONDS = 8.0


def music(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """A tune over noise bursts, with overtones past 8 kHz; no two seeds alike and nothing in it repeats."""
    rng = np.random.default_rng([7, seed])
    t = np.arange(round(seconds * RATE)) / RATE
    wave = 0.002 * rng.standard_normal(len(t))
    at = 0.0
    while at < seconds:
        length = float(rng.uniform(0.12, 0.45))
        part = (t >= at) & (t < at + length)
        age = t[part] - at
        hertz = 440 * 2 ** ((rng.integers(45, 84) - 69) / 12)
        tone = sum(np.sin(2 * np.pi * hertz * h * age) / h for h in range(1, 20) if hertz * h < 15_000)
        wave[part] += 0.12 * np.exp(-4 * age) * tone
        wave[part] += 0.08 * np.exp(-60 * age) * rng.standard_normal(part.sum())
        at += length
    return wave.astype(np.float32)


def write(folder: Path, name: str, wave: np.ndarray, rate: int = RATE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", wave, rate)


def write_mp3(path: Path, wave: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libmp3lame", rate=rate, layout="mono", bit_rate=48_000)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


@pytest.fixture(scope="module", autouse=True)
def shared_work(module_patch: pytest.MonkeyPatch) -> None:
    once.share(module_patch, audio_metrics, "describe")
    once.share(module_patch, copies, "chroma_of_file")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, tuned (other music, nothing broken), training, unseen: 12 clips each."""
    root = tmp_path_factory.mktemp("damage")
    for number, name in enumerate(("base", "tuned", "training", "unseen")):
        for k in range(12):
            write(root / name, f"prompt{k:02}", music(100 * number + k))
    return root


def spoiled(folders: Path, to: Path, how: str) -> Path:
    """The tuned clips, each spoiled in one way."""
    for path in sorted((folders / "tuned").glob("*.wav")):
        wave = soundfile.read(path, dtype="float32")[0]
        if how == "highs":
            wave = soxr.resample(soxr.resample(wave, RATE, 16_000), 16_000, RATE)
        elif how == "silent":
            wave[len(wave) // 3 : len(wave) // 2] = 0
        elif how == "looping":
            wave = np.resize(wave[: round(1.37 * RATE)], len(wave))
        elif how == "clipping":
            wave = np.clip(wave * 4, -0.5, 0.5)  # cut, and then turned down
        write(to, path.stem, wave)
    return to


def judged(folders: Path, tuned: Path, out: Path, **more: Path) -> Scorecard:
    return damage.judge(folders / "base", tuned, out=out, **more)


@pytest.mark.usefixtures("real_pictures")
def test_nothing_broken_is_nothing_worse(folders: Path, tmp_path: Path) -> None:
    card = judged(
        folders, folders / "tuned", tmp_path, training=folders / "training", unseen=folders / "unseen"
    )
    assert card.verdicts["status"] == "measured" and card.extra_json["pairs"] == 12
    assert {card.verdicts[name] for name in ("highs", "silent", "looping", "clipping")} == {"not worse"}
    assert card.verdicts["copies"] == 0 and card.extra_json["copied"] == []
    cross = card.sections["cross_entropy"].rows[0]
    assert cross.value is None and cross.note == "no model was given"
    for rows in (card.sections["highs"].rows, card.sections["looping"].rows):
        assert [row.label for row in rows] == ["base", "tuned", "tuned - base", "unseen"]
    page = (tmp_path / "damage.md").read_text()
    for picture in ("spectra.png", "spectrograms.png"):
        assert f"({picture})" in page and (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.parametrize("how", ["highs", "silent", "looping", "clipping"])
def test_each_kind_of_damage_is_found_and_no_other(folders: Path, tmp_path: Path, how: str) -> None:
    card = judged(folders, spoiled(folders, tmp_path / "tuned", how), tmp_path / "out")
    found = {name: card.verdicts[name] for name in ("highs", "silent", "looping", "clipping")}
    assert found.pop(how) == "worse"
    if how == "clipping":
        found.pop("highs")  # cutting tops off makes highs
    assert set(found.values()) == {"not worse"}
    assert card.verdicts["copies"].startswith("not measured")


@pytest.mark.parametrize("disguise", ["as it was", "mp3, quieter, half a second in"])
def test_a_copied_training_clip_is_caught(folders: Path, tmp_path: Path, disguise: str) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(folders / "tuned", tuned)
    source = folders / "training" / "prompt05.wav"
    if disguise == "as it was":
        shutil.copy(source, tuned / "prompt03.wav")
    else:
        (tuned / "prompt03.wav").unlink()
        wave = soundfile.read(source, dtype="float32")[0][RATE // 2 :]
        write_mp3(tuned / "prompt03.mp3", soxr.resample(0.3 * wave, RATE, 24_000), 24_000)
    card = judged(folders, tuned, tmp_path / "out", training=folders / "training", unseen=folders / "unseen")
    assert card.verdicts["copies"] == 1
    (copy,) = card.extra_json["copied"]
    assert copy["clip"].startswith("prompt03") and copy["training_clip"] == "prompt05.wav"
    assert copy["seconds"] > 5
    shift = copy["training_start"] - copy["start"]
    assert shift == pytest.approx(0 if disguise == "as it was" else 0.5, abs=0.15)
    assert "prompt05.wav" in (tmp_path / "out" / "damage.md").read_text()


def test_in_music_of_one_chord_an_equal_clip_is_a_copy_and_none_is_no_all_clear(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(8 * RATE) / RATE
    for side in ("base", "tuned", "training"):
        (tmp_path / side).mkdir()
        for k in range(10):
            chord = sum(np.sin(2 * np.pi * 220 * ratio * t + rng.uniform(0, 6)) for ratio in (1, 1.25, 1.5))
            soundfile.write(tmp_path / side / f"prompt{k:02}.wav", 0.1 * chord, RATE)
    given = {"training": tmp_path / "training", "unseen": None}
    card = damage.judge(tmp_path / "base", tmp_path / "tuned", out=tmp_path / "out", **given)
    assert card.verdicts["copies"].startswith("not measured: chance alone shares")
    shutil.copy(tmp_path / "training" / "prompt05.wav", tmp_path / "tuned" / "prompt03.wav")
    card = damage.judge(tmp_path / "base", tmp_path / "tuned", out=tmp_path / "out", **given)
    assert [copy["clip"] for copy in card.extra_json["copied"]] == ["prompt03.wav"]


def test_unseen_clips_that_are_training_clips_do_not_hide_a_copy(folders: Path, tmp_path: Path) -> None:
    tuned, unseen = tmp_path / "tuned", tmp_path / "unseen"
    for to in (tuned, unseen):
        shutil.copytree(folders / to.name, to)
        shutil.copy(folders / "training" / "prompt05.wav", to / "prompt03.wav")
    card = judged(folders, tuned, tmp_path / "out", training=folders / "training", unseen=unseen)
    assert card.verdicts["copies"] == 1
    assert "prompt03.wav" in card.sections["copies"].text.split("Left out of unseen")[1].split("\n")[0]


def test_other_names_are_compared_unpaired(folders: Path, tmp_path: Path) -> None:
    spoiled(folders, tmp_path / "plain", "highs")
    for path in (tmp_path / "plain").iterdir():
        path.rename(path.with_stem(f"other-{path.stem}"))
    card = judged(folders, tmp_path / "plain", tmp_path / "out")
    assert card.extra_json["pairs"] == 0 and card.verdicts["highs"] == "worse"
    assert "unpaired" in card.sections["highs"].rows[2].note


def test_fewer_than_ten_different_clips_are_refused(folders: Path, tmp_path: Path) -> None:
    for k in range(12):  # twelve files, nine sounds; and one that is no audio
        write(tmp_path / "tuned", f"prompt{k:02}", music(k % 9))
    (tmp_path / "tuned" / "torn.wav").write_bytes(b"RIFF")
    card = judged(folders, tmp_path / "tuned", tmp_path / "out")
    assert card.verdicts["status"] == "refused" and "found 9 in" in card.verdicts["why"]
    assert not card.sections and len(card.extra_json["left_out"]) == 4


def test_a_missing_folder_is_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        judged(folders, tmp_path / "nowhere", tmp_path / "out")


def test_a_folder_beside_itself_says_so(folders: Path, tmp_path: Path) -> None:
    card = judged(folders, folders / "base", tmp_path)
    assert card.warning.startswith("12 clips of both folders are the same audio")
