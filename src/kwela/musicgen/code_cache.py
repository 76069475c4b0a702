"""Compute the codes of clips and the states of prompts once, and keep them in files.

    CACHE/<base's fingerprint>/codes/<sha256 of the file>.safetensors    KEY: int16 (K, T); KEY.level: float16
    (T)
                              /text/<sha256 of the file>.safetensors     KEY: float16 (length, text width)

- KEY is a hash of the clip's bytes, or of the prompt. What any file holds is not computed again, for any run.
- These files are called shards. A shard's name is the hash of its content, so a damaged one is noticed and
  computed again. Shards appear under their names only when they are whole, so a killed process loses only the
  shards that it was writing.
- One process at a time fills the cache. Others, such as the ranks of a run, wait and then find it filled.
- Shards are mapped into memory, not read: an item costs its own bytes.
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

from kwela import files, terminal
from kwela.corpus import parallel
from kwela.errors import UserError
from kwela.music import audio
from kwela.musicgen import base_model, encoding

CLIPS_PER_SHARD, PROMPTS_PER_SHARD = 16, 256
PROMPT_BATCH = 32


@dataclass
class Shards:
    """The shards that hold each key. It can be pickled: worker processes open the files themselves."""

    paths: dict[str, Path] = field(default_factory=dict)
    _files: dict[Path, Any] = field(default_factory=dict, repr=False)

    def __contains__(self, key: str) -> bool:
        """Return whether a shard holds `key`."""
        return key in self.paths

    def get(self, key: str, part: str = "") -> np.ndarray:
        """Return the array of `key`, or its `part`. Raises KeyError if no shard holds it."""
        path = self.paths[key]
        if path not in self._files:
            from safetensors import safe_open

            self._files[path] = safe_open(path, "numpy")
        return self._files[path].get_tensor(f"{key}.{part}" if part else key)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open files."""
        return {"paths": self.paths, "_files": {}}


@dataclass
class CodeCache:
    """The cache of some clips and prompts.

    codes: of each clip that could be encoded. states: of each prompt. keys: the key in `codes` of each clip.
    left_out: the reason for each clip that could not be encoded.
    """

    codes: Shards
    states: Shards
    keys: dict[Path, str]
    left_out: dict[Path, str]


def fill(
    clips: Sequence[Path],
    prompts: Sequence[str],
    base_folder: Path,
    cache_dir: Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    say: Callable[[str], None] = terminal.say,
    quiet: bool = False,
) -> CodeCache:
    """Encode the clips and prompts that `cache_dir` does not hold yet, and return the cache of all of them.

    base_folder: the base model that encodes. say: prints how many clips were resampled to the codec's rate. A
    clip that cannot be decoded is left out, with the reason. Raises UserError if a clip does not exist.
    """
    for path in clips:
        if not path.is_file():
            raise UserError(f"{path}: no such clip; build the data set again (kwela dataset)")
    folder = cache_dir / base_model.fingerprint(base_folder)[:16]
    keys, unreadable = {}, {}
    for path in clips:
        try:
            keys[path] = files.sha256(path)
        except OSError as error:
            unreadable[path] = f"{path}: {error.strerror}"
    paths = {key: str(path) for path, key in keys.items()}
    texts = {_prompt_key(prompt): prompt for prompt in prompts}
    pool = {"workers": workers, "executor": executor, "quiet": quiet}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        states, _ = _encode_missing(
            texts, write_prompt_shard, PROMPTS_PER_SHARD, base_folder, folder / "text", **pool
        )
        codes, results = _encode_missing(
            paths, write_clip_shard, CLIPS_PER_SHARD, base_folder, folder / "codes", **pool
        )
    _report_resampling(results, base_model.codec_shape(base_folder).sample_rate, say)
    reasons = {key: reason for result in results for key, reason in result["left_out"].items()}
    left_out = {path: reasons.get(key, "not encoded") for path, key in keys.items() if key not in codes}
    left_out |= unreadable
    return CodeCache(codes, states, keys, left_out)


def prompt_states(shards: Shards, prompt: str) -> np.ndarray:
    """Return the states of a prompt, float16 (length, text width). Raises KeyError if the cache lacks it."""
    return shards.get(_prompt_key(prompt))


def open_shards(folder: Path, wanted: Iterable[str] | None = None) -> Shards:
    """Return the shards in `folder` that hold a key of `wanted` (None: any key), and delete damaged ones."""
    from safetensors import SafetensorError, safe_open

    wanted_keys, shards = None if wanted is None else set(wanted), Shards()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "numpy") as file:
                keys = {name for name in file.keys() if "." not in name}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError):
            keys = set()
        useful_keys = keys if wanted_keys is None else keys & wanted_keys
        if keys and not useful_keys:
            continue
        if keys and files.sha256(path) == path.stem:
            shards.paths |= dict.fromkeys(useful_keys, path)
        else:
            path.unlink(missing_ok=True)
    return shards


def _encode_missing(
    items: Mapping[str, str],
    write_shard: Callable[..., Any],
    shard_size: int,
    base_folder: Path,
    folder: Path,
    **pool: Any,
) -> tuple[Shards, list[dict[str, Any]]]:
    """Write shards of the items, key -> path or text, that `folder` lacks.

    Returns the shards of all items, and what `write_shard` returned for each new shard. pool: options of
    parallel.run.
    """
    shards = open_shards(folder, items)
    missing = [key for key in items if key not in shards]
    if not missing:
        return shards, []
    groups = [missing[begin : begin + shard_size] for begin in range(0, len(missing), shard_size)]
    jobs = {group[0]: (base_folder, {key: items[key] for key in group}, folder) for group in groups}
    # The journal of this run is temporary: the shards are the lasting result.
    with tempfile.TemporaryDirectory() as scratch:
        results = parallel.run(
            write_shard,
            jobs,
            Path(scratch) / "journal",
            label=f"Encoding {folder.name}",
            result_of_crash=_crashed,
            min_items_per_worker=1,
            **pool,
        )
    _codec.cache_clear()
    _text_encoder.cache_clear()
    return open_shards(folder, items), list(results.values())


def _report_resampling(
    results: Sequence[Mapping[str, Any]], codec_rate: int, say: Callable[[str], None]
) -> None:
    counts = Counter(rate for result in results for rate in result.get("rates", []))
    resampled = [f"{count:,} at {rate:,} Hz" for rate, count in sorted(counts.items()) if rate != codec_rate]
    if resampled:
        say(f"Resampled to the codec's {codec_rate:,} Hz: {', '.join(resampled)}")


# ------------------------------------------------------------------ in workers


def write_clip_shard(base_folder: Path, clips: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Write one shard of clips (key -> path) into `folder`. Runs in a worker process.

    Returns {"left_out": {key: reason}, "rates": the sample rate (Hz) of each clip's file}.
    """
    shape, codec = base_model.codec_shape(base_folder), _codec(base_folder)
    tensors, left_out, rates = {}, {}, []
    for key, path in clips.items():
        try:
            wave, file_rate = audio.whole(Path(path), shape.sample_rate)
            if len(wave) < shape.hop:
                raise UserError(f"{path}: shorter than one frame of the codec")
        except UserError as error:
            left_out[key] = str(error)
            continue
        rates.append(file_rate)
        tensors[key] = encoding.encode_audio(codec, wave, shape.hop)
        tensors[f"{key}.level"] = encoding.frame_levels(wave, shape.hop, tensors[key].shape[1])
    if tensors:
        _write_shard(folder, tensors)
    return {"left_out": left_out, "rates": rates}


def write_prompt_shard(base_folder: Path, prompts: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Write one shard of prompts (key -> text) into `folder`. Runs in a worker process."""
    tokenizer, text_encoder = base_model.load_tokenizer(base_folder), _text_encoder(base_folder)
    tensors = {}
    by_length = sorted(prompts.items(), key=lambda item: len(item[1]))  # batches then need little padding
    for begin in range(0, len(by_length), PROMPT_BATCH):
        keys, batch = zip(*by_length[begin : begin + PROMPT_BATCH], strict=True)
        for key, states in zip(keys, encoding.encode_prompts(tokenizer, text_encoder, batch), strict=True):
            tensors[key] = states.astype(np.float16)
    _write_shard(folder, tensors)
    return {"left_out": {}}


def _write_shard(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    content = save(dict(tensors))
    files.write(folder / f"{files.sha256(content)}.safetensors", content, durable=False, what="not cached")


_codec = functools.lru_cache(maxsize=1)(base_model.load_codec)
_text_encoder = functools.lru_cache(maxsize=1)(base_model.load_text_encoder)


def _crashed(base_folder: Path, items: Mapping[str, str], folder: Path) -> dict[str, Any]:
    return {"left_out": dict.fromkeys(items, "encoding it killed the worker (not enough memory?)")}


def _prompt_key(prompt: str) -> str:
    return files.sha256(prompt.encode())
