"""Generate audio files from prompts, and report the time and memory that it took."""

from __future__ import annotations

import contextlib
import json
import re
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
from kwela.musicgen import base_model, encoding, model, sampling, tuned_model
from kwela.musicgen.config import LONGEST_PROMPT, MAX_SECONDS
from kwela.musicgen.streaming_decoder import StreamingDecoder

LUFS, PEAK = -16.0, 0.95  # of the files: the level of streaming services, and a little below full scale
BATCH = 8  # prompts at once: attention's cache takes 0.3 GB for 30 s of one prompt with musicgen-small


@dataclass
class LoadedMusicgen:
    """All models that generation needs. origin: the facts that files state of the model."""

    lm: model.MusicLm
    text_encoder: Any
    tokenizer: Any
    codec: Any
    codec_shape: base_model.CodecShape
    origin: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.lm.parameters()).device


def load(source: str, tiny_folder: Path, device: str | None = None) -> LoadedMusicgen:
    """Load a checkpoint (best_model.pt), a folder, a hub id, or "tiny".

    device: "cpu", "cuda" or None for the best. Raises UserError if there is no such model or it is damaged.
    """
    path = Path(source).expanduser()
    origin: dict[str, Any] = {"model": path.name if path.exists() else source}
    if path.is_file():
        lm, base_folder, state = tuned_model.load_checkpoint(path, tiny_folder)
        origin |= {"sha256": files.sha256(path), "step": state["progress"]["step"]}
        origin["base"] = state["config"]["model"]["base"]
    elif path.suffix == ".pt":
        raise UserError(f"{path}: no such checkpoint")
    elif path.is_dir():
        lm, base_folder = tuned_model.load_folder(path, tiny_folder)
    else:
        base_folder = base_model.find(source, tiny_folder)
        lm = model.build({"base": source, "tuning": "full"}, tiny_folder)
    origin["base_fingerprint"] = base_model.fingerprint(base_folder)
    target = ranks.pick(device or ("cuda" if torch.cuda.is_available() else "cpu"), 0, 1)
    return LoadedMusicgen(
        # Half precision on a GPU: reading the weights takes most of the time of a step.
        lm.eval().merge().to(target, torch.float16 if target.type == "cuda" else torch.float32),
        base_model.load_text_encoder(base_folder).to(target),
        base_model.load_tokenizer(base_folder),
        base_model.load_codec(base_folder).to(target),
        base_model.codec_shape(base_folder),
        origin,
    )


def check_request(prompts: Sequence[str], seconds: float) -> None:
    """Raise UserError for a prompt that is empty, too long or no text, or a duration out of range.

    Call it before a model is loaded.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UserError("a prompt is empty: say in words what to play")
    for prompt in prompts:
        if len(prompt) > LONGEST_PROMPT:
            size = f"{len(prompt):,} characters, at most {LONGEST_PROMPT:,} are read"
            raise UserError(f"a prompt is too long: {size}: it begins with {prompt[:60]!r}")
        if not prompt.isprintable() and re.search("[\0\ud800-\udfff]", prompt):
            raise UserError(f"a prompt is not UTF-8 text: {prompt[:60]!r}")
    if not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"--duration {seconds:g}: give seconds above 0, up to {MAX_SECONDS:g}")


def generate(
    loaded: LoadedMusicgen,
    prompts: Sequence[str],
    seconds: float,
    seeds: Sequence[int],
    out: Sequence[Path],
    settings: sampling.SamplingSettings,
    *,
    stream: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a WAV and a FLAC for each prompt, at out[i] with those suffixes, and return what it took.

    seconds: of each prompt, up to 300. stream: take one prompt at a time and write its WAV while codes are
    sampled; it is a whole WAV at any time, at the level that the model gives, while the FLAC is at -16 LUFS.
    progress: called with the number of frames that are done and the total. Returns {"samples": [{"prompt",
    "seed", "wav", "flac"}], "seconds", "first_audio_seconds", "seconds_per_second", "peak_memory_mb",
    "device"}. Raises UserError as `check_request` does, and KwelaError if the model's output is not finite.
    """
    check_request(prompts, seconds)
    frames = max(1, round(seconds * loaded.codec_shape.frame_rate))
    size = 1 if stream else BATCH
    batches = [range(low, min(low + size, len(prompts))) for low in range(0, len(prompts), size)]
    for path in out:
        path.parent.mkdir(
            parents=True, exist_ok=True
        )  # a folder that cannot be made fails before the long work
    if loaded.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, first_audio, samples = time.monotonic(), None, []
    for number, batch in enumerate(batches):
        waves, reached = _generate_batch(
            loaded, [prompts[i] for i in batch], frames, [seeds[i] for i in batch], settings,
            out[batch[0]].with_suffix(".wav") if stream else None,
            lambda done, number=number: progress(number * frames + done, frames * len(batches)),  # type: ignore[misc]
        )  # fmt: skip
        if first_audio is None:
            first_audio = reached - start
        for index, samples_of_prompt in zip(batch, waves, strict=True):
            if not np.isfinite(samples_of_prompt).all():
                raise KwelaError(f"{out[index]}: the model gave samples that are not finite; not written")
            facts = {"prompt": prompts[index], "seed": seeds[index], "seconds": seconds}
            facts |= asdict(settings) | loaded.origin
            samples.append(
                _write_files(samples_of_prompt, loaded.codec_shape.sample_rate, out[index], facts, stream)
            )
    duration = time.monotonic() - start
    return {
        "samples": samples,
        "seconds": duration,
        "first_audio_seconds": first_audio,
        "seconds_per_second": duration / (seconds * len(prompts)),
        "peak_memory_mb": _peak_memory_mb(loaded.device),
        "device": str(loaded.device),
    }


@torch.inference_mode()
def write_preview(
    lm: Any, base_folder: Path, prompt: str, states: np.ndarray, frames: int, seed: int, out: Path
) -> None:
    """Write one sample of `frames` frames and its spectrogram into the folder `out`.

    lm: a MusicLm of the base model in `base_folder`. states: of the prompt.
    """
    codec, shape = base_model.load_codec(base_folder), base_model.codec_shape(base_folder)
    sampled = sampling.sample_frames(lm, [states], frames, [seed], shape, sampling.SamplingSettings())
    codes = torch.stack([frame.cpu() for frame in sampled], -1)
    samples = StreamingDecoder(codec, shape.hop).decode(codes, last=True)[0].numpy()
    _write_files(samples, shape.sample_rate, out / "sample", {"prompt": prompt, "seed": seed})
    save_spectrogram(samples, shape.sample_rate, prompt, out / "sample.png")


def _generate_batch(
    loaded: LoadedMusicgen,
    prompts: Sequence[str],
    frames: int,
    seeds: Sequence[int],
    settings: sampling.SamplingSettings,
    streamed_wav: Path | None,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, float]:
    """Return the samples (B, n) of a batch of prompts, and when its first second was decoded.

    The time is that of time.monotonic. streamed_wav: a WAV that is written while codes are sampled; None for
    none.
    """
    shape = loaded.codec_shape
    decoder = StreamingDecoder(loaded.codec, shape.hop)
    states = encoding.encode_prompts(loaded.tokenizer, loaded.text_encoder, prompts)
    sampled = sampling.sample_frames(loaded.lm, states, frames, seeds, shape, settings)
    parts: list[np.ndarray] = []
    pending: list[torch.Tensor] = []
    first_second, decoded = None, 0
    with _open_streamed_wav(streamed_wav, shape.sample_rate) as write_samples:
        for done, frame in enumerate(sampled, 1):
            pending.append(frame)
            progress(done)
            # A quarter of a second at a time is soon enough for a listener, and costs little.
            if len(pending) * 4 < shape.frame_rate and done < frames:
                continue
            samples = decoder.decode(torch.stack(pending, dim=-1), last=done == frames)
            pending.clear()
            parts.append(samples.float().cpu().numpy())
            decoded += parts[-1].shape[1]
            write_samples(parts[-1][0])
            if first_second is None and (decoded >= shape.sample_rate or done == frames):
                first_second = time.monotonic()
    assert first_second is not None
    return np.concatenate(parts, axis=1), first_second


@contextlib.contextmanager
def _open_streamed_wav(path: Path | None, rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Open a WAV and yield a function that appends samples; without a path, the function does nothing.

    After each call the file is a whole WAV, because its header is written again. soundfile does not do that.
    """
    if path is None:
        yield lambda samples: None
        return
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)

        def append(samples: np.ndarray) -> None:
            wav.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
            file.flush()

        yield append


def _write_files(
    samples: np.ndarray, rate: int, out: Path, facts: dict[str, Any], streamed: bool = False
) -> dict[str, Any]:
    """Write a WAV and a FLAC at -16 LUFS with the facts as their comment, and return where they are.

    streamed: the WAV keeps the level of the samples.
    """
    import soundfile

    normalised = loudness.normalised(samples, rate, LUFS, PEAK)
    for suffix in (".wav", ".flac"):
        with (
            files.draft(out.with_suffix(suffix), durable=False, ending=f".tmp{suffix}") as draft,
            soundfile.SoundFile(draft, "w", rate, 1, "PCM_16") as file,
        ):
            file.title, file.software = facts["prompt"], "kwela"
            file.comment = json.dumps(facts, ensure_ascii=False)
            file.write(np.clip(samples, -1, 1) if streamed and suffix == ".wav" else normalised)
    return {
        "prompt": facts["prompt"],
        "seed": facts["seed"],
        "wav": str(out.with_suffix(".wav")),
        "flac": str(out.with_suffix(".flac")),
    }


def save_spectrogram(samples: np.ndarray, rate: int, title: str, path: Path) -> None:
    """Draw a picture of `samples`: dB below its loudest point, 0 Hz to half its rate."""
    figure, (axis,) = plots.sheet(1, 1, (8, 3))
    picture = plots.draw_spectrogram(axis, samples, rate)
    axis.set_title(title[:90], parse_math=False)  # a prompt may hold a $
    figure.colorbar(picture, label="dB")
    plots.save(figure, path)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
