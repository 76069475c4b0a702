"""The cache of what a frozen codec and text encoder say: codes of clips, states of prompts, computed once.

    CACHE/<base's fingerprint>/codes/<sha256 of the file>.safetensors     KEY: int16 (K, T);  KEY.level: float16 (T)
                              /text/<sha256 of the file>.safetensors      KEY: float16 (length, text width)

- KEY is a hash of the clip's bytes, or of the prompt. What is in any shard is not computed again, whoever asks.
- A shard's name is the hash of its content: a damaged one gives itself away and is made anew. Shards are renamed into
  place whole, so a killed build keeps all but those under way.
- One process at a time fills it; others that want to (the ranks of a run) wait, and find it filled.
- Shards are mapped, not read: an item costs its own bytes.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from kwela import files
from kwela.corpus import parallel
from kwela.errors import UserError
from kwela.music import audio
from kwela.musicgen import base

CLIPS_A_SHARD, PROMPTS_A_SHARD = 16, 256
SPAN, MARGIN = 1500, 8  # frames that the codec hears at a time, and to each side of them
SILENT = -60.0  # dB of full scale, RMS of a frame: quieter is silence


@dataclass
class Shards:
    """The shards of one folder, and where each key is. Picklable: workers open the files themselves."""

    place: dict[str, Path] = field(default_factory=dict)
    _open: dict[Path, Any] = field(default_factory=dict, repr=False)

    def __contains__(self, key: str) -> bool:
        return key in self.place

    def get(self, key: str, part: str = "") -> np.ndarray:
        """The array under `key`, or its `part`. Raises KeyError."""
        path = self.place[key]
        if path not in self._open:
            from safetensors import safe_open

            self._open[path] = safe_open(path, "numpy")
        return self._open[path].get_tensor(f"{key}.{part}" if part else key)

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "_open": {}}


def recall(folder: Path, wanted: Iterable[str] | None = None) -> Shards:
    """The shards in `folder` that hold something `wanted` (None: anything), checked; damaged ones are removed."""
    from safetensors import SafetensorError, safe_open

    keys, shards = None if wanted is None else set(wanted), Shards()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "numpy") as file:
                held = {name for name in file.keys() if "." not in name}  # noqa: SIM118 - it is no dict
        except (SafetensorError, OSError):
            held = set()
        useful = held if keys is None else held & keys
        if held and not useful:
            continue
        if held and files.sha256(path) == path.stem:
            shards.place |= dict.fromkeys(useful, path)
        else:
            path.unlink(missing_ok=True)
    return shards


@dataclass
class Cached:
    """codes: of each clip that could be encoded, by its key. states: of each prompt. left_out: clip -> why."""

    codes: Shards
    states: Shards
    keys: dict[Path, str]
    left_out: dict[Path, str]


def cache(
    clips: Sequence[Path],
    prompts: Sequence[str],
    folder: Path,
    place: Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> Cached:
    """Encode what `place` doesn't hold yet of `clips` and `prompts` with the base in `folder`, and open all of it.

    Raises UserError if a clip isn't there; one that doesn't decode is left out with its reason. A rate that isn't the
    codec's is resampled to, and said once.
    """
    for path in clips:
        if not path.is_file():
            raise UserError(f"{path}: no such clip; build the data set again (kwela dataset)")
    where = place / base.fingerprint(folder)[:16]
    keys = {path: files.sha256(path) for path in clips}
    by_key = {key: path for path, key in keys.items()}

    def build(
        what: str, items: Mapping[str, Any], one: Callable[..., Any], size: int
    ) -> tuple[Shards, list[Any]]:
        shards = recall(where / what, items)
        left = [key for key in items if key not in shards]
        if not left:
            return shards, []
        groups = [left[at : at + size] for at in range(0, len(left), size)]
        jobs = {group[0]: (folder, {key: items[key] for key in group}, where / what) for group in groups}
        with tempfile.TemporaryDirectory() as scratch:  # the shards themselves are what lasts
            told = parallel.run(
                one, jobs, Path(scratch) / "journal", label=f"Encoding {what}", crashed=_crashed, executor=executor,
                workers=workers, quiet=quiet, inline=1,
            )  # fmt: skip
        _audio_encoder.cache_clear()
        _text_encoder.cache_clear()
        return recall(where / what, items), list(told.values())

    where.mkdir(parents=True, exist_ok=True)
    with FileLock(where / "lock"):
        states, _ = build("text", {_key(text): text for text in prompts}, encode_prompts, PROMPTS_A_SHARD)
        codes, told = build(
            "codes", {key: str(path) for key, path in by_key.items()}, encode_clips, CLIPS_A_SHARD
        )
    rate, rates = base.codec(folder).rate, Counter(one for result in told for one in result.get("rates", []))
    other = {own: count for own, count in rates.items() if own != rate}
    if other:
        listed = ", ".join(f"{count:,} at {own:,} Hz" for own, count in sorted(other.items()))
        say(f"Resampled to the codec's {rate:,} Hz: {listed}")
    reasons = {key: why for result in told for key, why in result["left_out"].items()}
    left_out = {path: reasons.get(key, "not encoded") for path, key in keys.items() if key not in codes}
    return Cached(codes, states, keys, left_out)


def prompt_states(cached: Shards, prompt: str) -> np.ndarray:
    """float16 (length, text width). Raises KeyError."""
    return cached.get(_key(prompt))


# ------------------------------------------------------------------ in workers


def encode_clips(folder: Path, clips: Mapping[str, str], out: Path) -> dict[str, Any]:
    """A shard of clips, key -> path. Returns {"left_out": {key: why}, "rates": the files' own}."""
    codec, model = base.codec(folder), _audio_encoder(folder)
    tensors, left_out, rates = {}, {}, []
    for key, path in clips.items():
        try:
            wave, own = audio.whole(Path(path), codec.rate)
            if len(wave) < codec.hop:
                raise UserError(f"{path}: shorter than one frame of the codec")
        except UserError as error:
            left_out[key] = str(error)
            continue
        rates.append(own)
        tensors[key] = encode(model, wave, codec.hop)
        tensors[f"{key}.level"] = levels(wave, codec.hop, tensors[key].shape[1])
    if tensors:
        _write(out, tensors)
    return {"left_out": left_out, "rates": rates}


def encode_prompts(folder: Path, prompts: Mapping[str, str], out: Path) -> dict[str, Any]:
    """A shard of prompts, key -> text."""
    tokenizer, model = base.tokenizer(folder), _text_encoder(folder)
    tensors, texts = {}, sorted(prompts.items(), key=lambda item: len(item[1]))
    for at in range(0, len(texts), 32):  # of like length: little padding
        keys, batch = zip(*texts[at : at + 32], strict=True)
        for key, state in zip(keys, text_states(tokenizer, model, batch), strict=True):
            tensors[key] = state.astype(np.float16)
    _write(out, tensors)
    return {"left_out": {}}


def text_states(tokenizer: Any, model: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """What a text encoder says of each text, float32 (length, width)."""
    import torch

    tokens = tokenizer(list(texts), return_tensors="pt", padding=True).to(model.device)
    with torch.inference_mode():
        states = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return [
        state[: int(mask.sum())].float().cpu().numpy()
        for state, mask in zip(states, tokens.attention_mask, strict=True)
    ]


def encode(codec: Any, wave: np.ndarray, hop: int) -> np.ndarray:
    """int16 (K, T): EnCodec's codes of samples at its rate, hop of them a frame.

    Its convolutions hear the wave in windows of half a minute, with a margin that holds all that they reach, so that an
    hour takes no more memory; what follows them, an LSTM first, runs on all frames.
    """
    import torch

    layers = list(codec.encoder.layers)
    lstm = next(at for at, layer in enumerate(layers) if hasattr(layer, "lstm"))
    frames, parts = -(-len(wave) // hop), []
    with torch.inference_mode():
        for at in range(0, frames, SPAN):
            low = max(0, at - MARGIN)
            hidden = torch.from_numpy(wave[low * hop : (at + SPAN + MARGIN) * hop])[None, None]
            for layer in layers[:lstm]:
                hidden = layer(hidden)
            parts.append(hidden[..., at - low : at - low + SPAN])
        hidden = torch.cat(parts, dim=-1)
        for layer in layers[lstm:]:
            hidden = layer(hidden)
        coded = codec.quantizer.encode(hidden, codec.config.target_bandwidths[0])[:, 0]  # (K, T)
    return coded.numpy().astype(np.int16)


def levels(wave: np.ndarray, hop: int, frames: int) -> np.ndarray:
    """RMS of each frame in dB of full scale, float16 (frames,); digital silence is -100."""
    padded = np.zeros(frames * hop, np.float32)
    padded[: min(len(wave), len(padded))] = wave[: len(padded)]
    power = np.square(padded.reshape(frames, hop), dtype=np.float64).mean(1)
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float16)


def _write(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    content = save(dict(tensors))
    files.write(folder / f"{files.sha256(content)}.safetensors", content, durable=False, what="not cached")


_audio_encoder = functools.lru_cache(maxsize=1)(base.audio_encoder)
_text_encoder = functools.lru_cache(maxsize=1)(base.text_encoder)


def _crashed(folder: Path, items: Mapping[str, str], out: Path) -> dict[str, Any]:
    return {"left_out": dict.fromkeys(items, "encoding it killed the worker (not enough memory?)")}


def _key(text: str) -> str:
    return files.sha256(text.encode())
