"""The cache of codes and states: by content, whole after any kill, and what the models themselves say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import musicgen_set
import numpy as np
import pytest
import soundfile
import soxr
import torch
from musicgen_set import TEMPLATES

from kwela.errors import UserError
from kwela.music import audio
from kwela.musicgen import base_model, code_cache, data, encoding

FILL_CACHE = Path(__file__).with_name("fill_cache.py")


def shards(place: Path, what: str = "codes") -> set[str]:
    return {path.name for path in place.glob(f"*/{what}/*.safetensors")}


def everything(place: Path) -> dict[str, np.ndarray]:
    """All arrays of a cache, by their names."""
    from safetensors.numpy import load_file

    return {name: value for path in place.rglob("*.safetensors") for name, value in load_file(path).items()}


def same(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)


def fill(
    clips: list[Path], folder: Path, place: Path, prompts: tuple[str, ...] = ("drums",), **more
) -> code_cache.CodeCache:
    return code_cache.fill(clips, prompts, folder, place, workers=1, quiet=True, **{"say": str, **more})


@pytest.fixture
def three(tmp_path, table) -> list[Path]:
    paths = sorted(table.parent.glob("*.flac"))[:3]
    return [Path(shutil.copy(path, tmp_path / f"clip{n}.flac")) for n, path in enumerate(paths)]


# ------------------------------------------------------------------ what is in it


def test_codes_are_the_codecs_and_levels_the_frames_own(three, folder, whole, tmp_path):
    cached = fill(three, folder, tmp_path / "cache")
    for path in three:
        got, key = cached.codes.get(cached.keys[path]), cached.keys[path]
        samples, rate = soundfile.read(path, dtype="float32")
        wave = soxr.resample(samples, rate, 32_000)
        with torch.no_grad():
            expected = whole.audio_encoder.encode(torch.from_numpy(wave)[None, None]).audio_codes[0, 0]
        assert got.dtype == np.int16 and np.array_equal(got, expected.numpy())
        assert got.shape == (4, 500) and len(np.unique(got)) > 20
        level = cached.codes.get(key, "level")
        frame = wave[100 * 640 : 101 * 640].astype(np.float64)
        assert level[100] == pytest.approx(10 * np.log10(np.mean(frame**2)), abs=0.05)
    assert not any(np.array_equal(cached.codes.get(cached.keys[three[0]]), cached.codes.get(cached.keys[path]))
                   for path in three[1:])  # fmt: skip


def test_a_long_clip_encoded_in_windows_has_the_codes_of_one_pass(three, whole, monkeypatch):
    wave, _ = audio.whole(three[1], 32_000)
    for samples in (len(wave), 203 * 640 + 17):
        monkeypatch.undo()
        once = encoding.encode_audio(whole.audio_encoder, wave[:samples], 640)
        monkeypatch.setattr(encoding, "WINDOW", 100)
        windows = encoding.encode_audio(whole.audio_encoder, wave[:samples], 640)
        assert windows.shape == once.shape == (4, -(-samples // 640))
        assert (windows != once).mean() < 1e-3
        monkeypatch.setattr(encoding, "MARGIN", 0)
        assert (
            encoding.encode_audio(whole.audio_encoder, wave[:samples], 640) != once
        ).mean() > 2e-3  # the control


def test_levels_of_silence_and_of_full_scale():
    wave = np.concatenate([np.zeros(640), np.ones(640), np.full(300, 0.1)]).astype(np.float32)
    assert encoding.frame_levels(wave, 640, 3) == pytest.approx(
        [-100, 0, 10 * np.log10(0.01 * 300 / 640)], abs=0.02
    )


def test_states_of_a_batch_of_prompts_are_those_of_each_alone(folder, whole, cached, table):
    tokenizer = base_model.load_tokenizer(folder)
    names = sorted(
        {name for clip in data.read_table(table) for name in data.make_prompts(clip.tags, TEMPLATES)}
    )
    assert len({len(name) for name in names}) > 3
    for name in names:
        with torch.no_grad():
            alone = whole.text_encoder(**tokenizer(name, return_tensors="pt")).last_hidden_state[0].numpy()
        state = code_cache.prompt_states(cached.states, name)
        assert state.dtype == np.float16 and state.shape == alone.shape
        assert np.abs(state - alone).max() < 2e-3 * np.abs(alone).max()
    with pytest.raises(KeyError):
        code_cache.prompt_states(cached.states, "never asked for")


# ------------------------------------------------------------------- by content


def test_the_same_bytes_under_another_name_are_not_encoded_again(three, folder, tmp_path):
    place = tmp_path / "cache"
    first = fill(three, folder, place)
    before = shards(place), shards(place, "text")
    copy = Path(shutil.copy(three[0], tmp_path / "another name.flac"))
    again = fill([copy, three[1]], folder, place)
    assert (shards(place), shards(place, "text")) == before
    assert np.array_equal(again.codes.get(again.keys[copy]), first.codes.get(first.keys[three[0]]))
    copy.write_bytes(copy.read_bytes()[:-2000])  # the control: other bytes
    fill([copy, three[1]], folder, place, prompts=("drums", "piano"))
    assert len(shards(place)) == len(before[0]) + 1 and len(shards(place, "text")) == len(before[1]) + 1


def test_another_base_has_a_cache_of_its_own(three, folder, tmp_path):
    place = tmp_path / "cache"
    fill(three[:1], folder, place)
    other = shutil.copytree(folder, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    fill(three[:1], other, place)
    assert len(list(place.iterdir())) == 2


def test_a_damaged_shard_is_removed_and_made_anew(three, folder, tmp_path):
    place = tmp_path / "cache"
    fill(three, folder, place)
    good = everything(place)
    for damage in (
        lambda raw: raw[:-40],
        lambda raw: raw[:300] + bytes([raw[300] ^ 1]) + raw[301:],
        lambda _: b"no",
    ):
        (path,) = place.glob("*/codes/*.safetensors")
        path.write_bytes(damage(path.read_bytes()))
        assert not same(everything_but_broken(place), good)
        fill(three, folder, place)
        assert same(everything(place), good)
        assert len(shards(place)) == 1


def everything_but_broken(place: Path) -> dict[str, np.ndarray]:
    try:
        return everything(place)
    except Exception:
        return {}


# ------------------------------------------------------------- what can't be encoded


def test_what_doesnt_decode_is_left_out_with_its_reason(three, folder, tmp_path):
    text, empty, tick = tmp_path / "text.mp3", tmp_path / "empty.mp3", tmp_path / "tick.wav"
    text.write_bytes(b"not sound\n" * 300)
    empty.write_bytes(b"")
    soundfile.write(tick, np.zeros(200), 16_000)
    paths = [three[0], text, empty, tick]
    for _ in range(2):  # and again, when the others are known
        cached = fill(paths, folder, tmp_path / "cache")
        assert set(cached.left_out) == {text, empty, tick}
        assert "text.mp3: not readable as audio" in cached.left_out[text]
        assert "the file is empty" in cached.left_out[empty]
        assert "shorter than one frame" in cached.left_out[tick]
        assert cached.keys[three[0]] in cached.codes


def test_a_clip_that_isnt_there_is_named_before_any_is_encoded(three, folder, tmp_path):
    with pytest.raises(UserError, match=r"gone\.mp3: no such clip"):
        fill([*three, tmp_path / "gone.mp3"], folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_resampling_is_said_once_with_counts(three, folder, tmp_path):
    wave, _ = audio.whole(three[0], 32_000)
    own, eight = tmp_path / "own.wav", tmp_path / "eight.wav"
    soundfile.write(own, wave, 32_000)
    soundfile.write(eight, wave[::4], 8_000)
    said: list[str] = []
    fill([*three, own, eight], folder, tmp_path / "cache", say=said.append)
    assert said == ["Resampled to the codec's 32,000 Hz: 1 at 8,000 Hz, 3 at 16,000 Hz"]
    fill([*three, own, eight], folder, tmp_path / "cache", say=said.append)
    fill([own], folder, tmp_path / "new", say=said.append)
    assert len(said) == 1


# ------------------------------------------------------------------ killed, crowded


def start_filling(
    table: Path, folder: Path, place: Path, pause: float = 0.0, workers: int = 1
) -> subprocess.Popen:
    command = [sys.executable, str(FILL_CACHE), *map(str, (table, folder, place, pause, workers))]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


PROMPTS = ("drums", "piano, slow", "bass")


@pytest.fixture(scope="module")
def few(table, tmp_path_factory) -> Path:
    """The table of ten of the clips."""
    rows = [
        [c.clip_id, c.path, 3, ",".join(c.tags), 10, c.split, c.artist] for c in data.read_table(table)[:10]
    ]
    return musicgen_set.write(tmp_path_factory.mktemp("few") / "few.csv", rows)


@pytest.fixture(scope="module")
def undisturbed(few, folder, tmp_path_factory) -> dict[str, np.ndarray]:
    place = tmp_path_factory.mktemp("undisturbed")
    fill([clip.path for clip in data.read_table(few)], folder, place, PROMPTS)
    return everything(place)


def kill_one(table: Path, folder: Path, place: Path, workers: int, new_shards: int = 2) -> None:
    """Start a build and kill it when it has written `new_shards` shards."""
    run, before = start_filling(table, folder, place, pause=0.3, workers=workers), len(shards(place))
    while len(shards(place)) < before + new_shards:
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.01)
    run.kill()
    run.communicate()


def test_a_killed_build_keeps_its_shards_and_ends_in_the_same_codes(few, folder, tmp_path, undisturbed):
    place = tmp_path / "cache"
    kill_one(few, folder, place, workers=1)
    kept = shards(place)
    assert kept
    fill([clip.path for clip in data.read_table(few)], folder, place, PROMPTS)
    assert kept < shards(place)  # none of those was thrown away, and there was something left to do
    assert same(everything(place), undisturbed)


@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 2])
def test_many_kills_change_no_code(few, folder, tmp_path, undisturbed, workers):
    place = tmp_path / "cache"
    for _ in range(4):
        kill_one(few, folder, place, workers, new_shards=1)  # the clips fill five shards
    fill([clip.path for clip in data.read_table(few)], folder, place, PROMPTS)
    assert same(everything(place), undisturbed)


def test_two_at_once_share_a_cache_and_no_clip_is_encoded_twice(few, folder, tmp_path, undisturbed):
    place = tmp_path / "cache"
    other = start_filling(few, folder, place, pause=0.05)
    while not shards(place):
        assert other.poll() is None, other.communicate()[1]
        time.sleep(0.01)
    fill([clip.path for clip in data.read_table(few)], folder, place, PROMPTS)
    assert other.wait() == 0, other.communicate()[1]
    assert same(everything(place), undisturbed)
    held = [name for path in place.glob("*/codes/*.s*") for name in names_in(path) if "." not in name]
    assert len(held) == len(set(held)) == len(data.read_table(few))


def names_in(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return list(file.keys())
