"""Prompts to files: their level and length, where they come from, and what is there before the last code is
drawn.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kwela.errors import KwelaError, UserError
from kwela.music import loudness
from kwela.musicgen import generation, sampling, tuned_model
from kwela.musicgen.sampling import SamplingSettings


@pytest.fixture(scope="module")
def tiny(stand_in) -> generation.LoadedMusicgen:
    return generation.load("tiny", stand_in, "cpu")


def generate(
    model, out: Path, seconds: float = 1.2, prompts=("drums", "a slow piano, é"), seeds=(5, 6), **more
):
    places = [out / f"test_output_{number + 1}" for number in range(len(prompts))]
    return generation.generate(model, prompts, seconds, seeds, places, SamplingSettings(top_k=20), **more)


def test_each_prompt_is_a_wav_and_a_flac_of_one_level_with_their_provenance(tiny, folder, tmp_path):
    took = generate(tiny, tmp_path)
    assert [Path(one["wav"]).name for one in took["samples"]] == ["test_output_1.wav", "test_output_2.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"test_output_{n}.{kind}" for n in (1, 2) for kind in ("flac", "wav")
    ]
    for one, seed in zip(took["samples"], (5, 6), strict=True):
        waves = []
        for kind in ("wav", "flac"):
            with soundfile.SoundFile(one[kind]) as file:
                about = json.loads(file.comment)
                assert (file.samplerate, file.channels, file.subtype) == (32_000, 1, "PCM_16")
                assert file.title == one["prompt"] and file.software.startswith("kwela")
                waves.append(file.read())
            assert about["prompt"] == one["prompt"] and about["seed"] == one["seed"] == seed
            assert about["guidance"] == 3.0 and about["top_k"] == 20 and about["seconds"] == 1.2
            assert about["model"] == "tiny" and len(about["base_fingerprint"]) == 64
        assert (
            len(waves[0]) == 60 * 640 and np.abs(waves[0] - waves[1]).max() <= 1 / 32768
        )  # the codecs round apart
        level, peak = loudness.loudness(waves[0], 32_000), np.abs(waves[0]).max()
        assert level == pytest.approx(-16, abs=0.1) or (peak == pytest.approx(0.95, abs=1e-3) and level < -16)
    assert took["first_audio_seconds"] <= took["seconds"]
    assert took["seconds_per_second"] == pytest.approx(took["seconds"] / 2.4)
    assert took["peak_memory_mb"] > 50 and took["device"] == "cpu"


def test_the_same_seed_is_the_same_sound_in_a_batch_of_any_size(tiny, tmp_path, monkeypatch):
    generate(tiny, tmp_path / "a")
    monkeypatch.setattr(generation, "BATCH", 1)
    generate(tiny, tmp_path / "b")
    generate(tiny, tmp_path / "c", seeds=(5, 7))
    first, again, other = (
        [soundfile.read(tmp_path / name / f"test_output_{n}.wav")[0] for n in (1, 2)] for name in "abc"
    )
    for n in (0, 1):
        assert np.abs(first[n] - again[n]).max() < 1e-3
    assert np.abs(first[1] - other[1]).max() > 0.05


def test_more_prompts_than_fit_at_once_come_in_turns(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "BATCH", 2)
    sizes: list[int] = []
    whole = sampling.sample_frames
    monkeypatch.setattr(sampling, "sample_frames", lambda model, states, *more, **named: sizes.append(len(states)) or whole(
        model, states, *more, **named))  # fmt: skip
    done: list[float] = []
    took = generate(
        tiny, tmp_path, 0.2, ["a", "b", "c", "d", "e"], range(5), progress=lambda n, of: done.append(n / of)
    )
    assert sizes == [2, 2, 1] and len(took["samples"]) == len(list(tmp_path.glob("*.wav"))) == 5
    assert done == sorted(done) and done[-1] == 1.0


def test_a_stream_holds_its_first_second_long_before_the_last_code(tiny, tmp_path):
    wav, seen = tmp_path / "test_output_1.wav", []

    def look(done: int, total: int) -> None:
        if done % 10 == 0 and wav.exists() and wav.stat().st_size:
            seen.append((done, soundfile.info(wav).frames))

    took = generate(tiny, tmp_path, 4.0, ["drums"], [5], stream=True, progress=look)
    assert next(done for done, frames in seen if frames >= 32_000) <= 90  # of 200
    for done, frames in seen:
        assert (
            frames >= (done - 11 - 13 - 1) * 640
        )  # the decoder lags 11 frames, and writes each quarter of a second
    streamed, _ = soundfile.read(wav)
    normal, _ = soundfile.read(took["samples"][0]["flac"])
    assert len(streamed) == len(normal) == 128_000
    assert json.loads(soundfile.SoundFile(wav).comment)["prompt"] == "drums"
    assert took["first_audio_seconds"] < 0.7 * took["seconds"]
    generate(tiny, tmp_path / "whole", 4.0, ["drums"], [5])
    whole, _ = soundfile.read(tmp_path / "whole" / "test_output_1.wav")
    assert np.abs(whole - normal).max() < 2e-4
    inside = np.abs(streamed) < 0.9  # the rest may be clipped
    gain = streamed[inside] @ normal[inside] / (streamed[inside] @ streamed[inside])
    assert (
        np.abs(streamed * gain - normal)[inside].max() < 1e-3
    )  # one gain apart: its level is the model's own
    assert abs(gain - 1) > 0.01


def test_silence_is_written_as_silence(tmp_path):
    made = generation._write_files(
        np.zeros(32_000, np.float32), 32_000, tmp_path / "quiet", {"prompt": "nothing", "seed": 1}
    )
    assert not soundfile.read(made["wav"])[0].any() and not soundfile.read(made["flac"])[0].any()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompts": ["drums", "  "]}, "prompt is empty"),
        ({"prompts": [], "seeds": []}, "prompt is empty"),
        ({"seconds": 0.0}, "--duration 0: give seconds above 0"),
        ({"seconds": 300.5}, "up to 300"),
        ({"seconds": float("nan")}, "--duration nan"),
    ],
)
def test_what_cant_be_played_is_refused_before_anything_is_written(tiny, tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        generate(tiny, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_a_diverged_model_leaves_no_file(stand_in, tmp_path):
    broken = generation.load("tiny", stand_in, "cpu")
    with torch.no_grad():
        for weight in broken.lm.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(KwelaError, match="not finite"):
        generate(broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tuned_model_says_so_in_what_it_plays(settings, stand_in, tmp_path):
    import fine_tune

    settings.training.max_steps, settings.data.seconds = 1, 0.5
    fine_tune.fit(settings, tmp_path / "run", on_best=tuned_model.write_best_model)
    model = generation.load(str(tmp_path / "run" / "best_model.pt"), stand_in, "cpu")
    took = generate(model, tmp_path, 0.2, ["drums"], [1])
    about = json.loads(soundfile.SoundFile(took["samples"][0]["wav"]).comment)
    assert about["model"] == "best_model.pt" and len(about["sha256"]) == 64 and about["step"] == 1
    assert about["base"] == "tiny"


def test_in_half_precision_it_plays_as_well(stand_in, tmp_path):
    """What a GPU does; bfloat16 here, which CPUs know."""
    model = generation.load("tiny", stand_in, "cpu")
    model.lm.to(torch.bfloat16)
    took = generate(model, tmp_path)
    assert all(np.abs(soundfile.read(one["wav"])[0]).max() > 0.05 for one in took["samples"])


def test_what_is_no_model_is_refused(stand_in, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("not weights")
    for source, said in (
        (tmp_path / "gone.pt", "no such checkpoint"),
        (tmp_path / "text.pt", "damaged, or not a checkpoint"),
        (tmp_path / "empty", "no config.json"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            generation.load(str(source), stand_in, "cpu")
    with pytest.raises(UserError, match="--device abc"):
        generation.load("tiny", stand_in, "abc")
