"""Prompts to audio files, with a report of what it took."""

from __future__ import annotations

import contextlib
import json
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kwela import files, plots
from kwela.engine import ranks
from kwela.errors import KwelaError, UserError
from kwela.music import loudness
from kwela.musicgen import artefact, base, codes, sample
from kwela.musicgen.streaming import Voice

LUFS, PEAK = -16.0, 0.95  # of what is written: streaming services' level, and a little below full scale
LONGEST = 300.0  # seconds
BATCH = 8  # prompts at once: attention's cache is 0.3 GB for each, half a minute long, with musicgen-small


@dataclass
class Model:
    """All that generating needs: the language model, its base's text encoder and codec, and where they come from."""

    lm: Any
    text: Any
    tokenizer: Any
    codec: Any
    form: base.Codec
    origin: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return next(self.lm.parameters()).device

    @property
    def frame_rate(self) -> float:
        return self.form.rate / self.form.hop


def load(source: str, tiny: Path, device: str | None = None) -> Model:
    """source: a checkpoint (best_model.pt), a folder, a hub id, or "tiny". Raises UserError if it can't be had."""
    path = Path(source).expanduser()
    origin: dict[str, Any] = {"model": path.name if path.exists() else source}
    if path.is_file():
        lm, folder, state = artefact.restore(path, tiny)
        origin |= {"sha256": files.sha256(path), "step": state["progress"]["step"]}
        origin["base"] = state["config"]["model"]["base"]
    elif path.suffix == ".pt":
        raise UserError(f"{path}: no such checkpoint")
    elif path.is_dir():
        lm, folder = artefact.load_folder(path, tiny)
    else:
        from kwela.musicgen import model

        folder = base.find(source, tiny)
        lm = model.build({"base": source, "tuning": "full"}, tiny)
    origin["base_fingerprint"] = base.fingerprint(folder)
    place = ranks.pick(device or ("cuda" if torch.cuda.is_available() else "cpu"), 0, 1)
    return Model(
        # Half precision on a GPU: a step there is as long as it takes to read the weights.
        lm.eval().merge().to(place, torch.float16 if place.type == "cuda" else torch.float32),
        base.text_encoder(folder).to(place),
        base.tokenizer(folder),
        base.audio_encoder(folder).to(place),
        base.codec(folder),
        origin,
    )


def check(prompts: Sequence[str], seconds: float) -> None:
    """Raises UserError for an empty prompt or a duration out of range: worth knowing before a model is loaded."""
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError("a prompt is empty: say in words what to play")
    if not 0 < seconds <= LONGEST:
        raise UserError(f"--duration {seconds:g}: give seconds above 0, up to {LONGEST:g}")


def generate(
    model: Model,
    prompts: Sequence[str],
    seconds: float,
    seeds: Sequence[int],
    out: Sequence[Path],
    how: sample.Sampling,
    *,
    stream: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a WAV and a FLAC for each prompt, at out[i] with those endings, and return what it took.

    seconds: up to 300. stream: one prompt at a time, its WAV growing as its codes come, a whole WAV at any time; its
    level is then what the model gives (the FLAC is at -16 LUFS all the same). progress: told frames done, of how many.
    Returns {"samples": [{"prompt", "seed", "wav", "flac"}], "seconds", "first_audio_seconds", "seconds_per_second",
    "peak_memory_mb", "device"}. Raises as `check`.
    """
    check(prompts, seconds)
    count = max(1, round(seconds * model.frame_rate))
    size = 1 if stream else BATCH
    groups = [list(range(low, min(low + size, len(prompts)))) for low in range(0, len(prompts), size)]
    for place in out:
        place.parent.mkdir(parents=True, exist_ok=True)  # now, rather than when minutes were spent
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began, first, made = time.monotonic(), None, []
    for number, group in enumerate(groups):
        waves, heard = _play(
            model, [prompts[i] for i in group], count, [seeds[i] for i in group], how,
            out[group[0]].with_suffix(".wav") if stream else None,
            lambda done, number=number: progress(number * count + done, count * len(groups)),  # type: ignore[misc]
        )  # fmt: skip
        first = first if first is not None else heard - began
        for index, samples in zip(group, waves, strict=True):
            if not np.isfinite(samples).all():
                raise KwelaError(f"{out[index]}: the model gave samples that are not finite; not written")
            about = {
                "prompt": prompts[index],
                "seed": seeds[index],
                "seconds": seconds,
                **asdict(how),
                **model.origin,
            }
            made.append(
                _write(samples, model.form.rate, out[index], about, as_it_came=(".wav",) if stream else ())
            )
    took = time.monotonic() - began
    return {
        "samples": made,
        "seconds": took,
        "first_audio_seconds": first,
        "seconds_per_second": took / (seconds * len(prompts)),
        "peak_memory_mb": _peak(model.device),
        "device": str(model.device),
    }


@torch.inference_mode()
def preview(lm: Any, folder: Path, prompt: str, state: np.ndarray, count: int, seed: int, out: Path) -> None:
    """One sample of `count` frames and its spectrogram, into `out`. lm: MusicLm, of the base in `folder`."""
    codec, form = base.audio_encoder(folder), base.codec(folder)
    coming = sample.frames(
        lm, [state], count, [seed], books=form.codebooks, size=form.size, rate=form.rate / form.hop,
        how=sample.Sampling(),
    )  # fmt: skip
    played = torch.stack([frame.cpu() for frame in coming], -1)
    samples = Voice(codec, form.hop).add(played, last=True)[0].numpy()
    about = {"prompt": prompt, "seed": seed}
    _write(samples, form.rate, out / "sample", about)
    save_spectrogram(samples, form.rate, prompt, out / "sample.png")


def _play(
    model: Model,
    prompts: Sequence[str],
    count: int,
    seeds: Sequence[int],
    how: sample.Sampling,
    growing: Path | None,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, float]:
    """Samples (B, n) of a batch of prompts, and when the first second of it could be heard (time.monotonic)."""
    voice, rate = Voice(model.codec, model.form.hop), model.form.rate
    coming = sample.frames(
        model.lm, codes.text_states(model.tokenizer, model.text, prompts), count, seeds,
        books=model.form.codebooks, size=model.form.size, rate=model.frame_rate, how=how,
    )  # fmt: skip
    parts: list[np.ndarray] = []
    waiting: list[torch.Tensor] = []
    heard, have = None, 0
    with (
        _growing(growing, rate)
        if growing is not None
        else contextlib.nullcontext(lambda samples: None) as hear
    ):
        for done, frame in enumerate(coming, 1):
            waiting.append(frame)
            progress(done)
            # A quarter of a second at a time: small enough to hear soon, large enough to cost little.
            if len(waiting) * 4 >= model.frame_rate or done == count:
                parts.append(
                    voice.add(torch.stack(waiting, dim=-1), last=done == count).float().cpu().numpy()
                )
                waiting.clear()
                have += parts[-1].shape[1]
                hear(parts[-1][0])
                if heard is None and (have >= rate or done == count):
                    heard = time.monotonic()
    assert heard is not None
    return np.concatenate(parts, axis=1), heard


@contextlib.contextmanager
def _growing(path: Path, rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A WAV that is whole after each call with more samples: its header is written anew, which soundfile doesn't do."""
    with path.open("wb") as file, wave.open(file, "wb") as header:
        header.setnchannels(1)
        header.setsampwidth(2)
        header.setframerate(rate)

        def hear(samples: np.ndarray) -> None:
            header.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
            file.flush()

        yield hear


def _write(
    samples: np.ndarray, rate: int, place: Path, about: dict[str, Any], as_it_came: Sequence[str] = ()
) -> dict[str, Any]:
    """WAV and FLAC at -16 LUFS, but for those `as_it_came`, with where they come from as their comment."""
    import soundfile

    level = loudness.normalised(samples, rate, LUFS, PEAK)
    for suffix in (".wav", ".flac"):
        with (
            files.draft(place.with_suffix(suffix), durable=False, ending=f".tmp{suffix}") as draft,
            soundfile.SoundFile(draft, "w", rate, 1, "PCM_16") as file,
        ):
            file.title, file.software = about["prompt"], "kwela"
            file.comment = json.dumps(about, ensure_ascii=False)
            file.write(np.clip(samples, -1, 1) if suffix in as_it_came else level)
    return {
        "prompt": about["prompt"],
        "seed": about["seed"],
        "wav": str(place.with_suffix(".wav")),
        "flac": str(place.with_suffix(".flac")),
    }


def save_spectrogram(samples: np.ndarray, rate: int, title: str, path: Path) -> None:
    """Draw a picture of `samples`: dB below its loudest point, 0 Hz to half its rate."""
    figure, (axis,) = plots.sheet(1, 1, (8, 3))
    picture = plots.draw_spectrogram(axis, samples, rate)
    axis.set_title(title[:90], parse_math=False)  # a prompt may hold a $
    figure.colorbar(picture, label="dB")
    plots.save(figure, path)


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
