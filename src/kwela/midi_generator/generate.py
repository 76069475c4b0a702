"""Sample songs: an exact number of bars, only ids that the grammar allows, the same song for the same seed.

- `choose` turns logits into an id, in NumPy float64, whether torch or onnxruntime computed them.
- Emotion may change at any bar. Each call of the model has one emotion; the cache keeps the positions of
  earlier calls.
- The window has `window` positions. When it is full, the cache is rebuilt from the BAR nearest half a window
  back.
- Guidance (Ho & Salimans 2022) adds a second row without emotion: uncond + guidance * (cond - uncond).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from kwela.errors import KwelaError, UserError
from kwela.midi_generator.model import MidiGenerator
from kwela.music import emotion, grammar, tokens

Vector = Sequence[float] | np.ndarray  # 3 or 64 numbers
Curve = Sequence[tuple[int, Vector]]  # (first bar, vector), bars ascending from 0
INPUTS = ("input_ids", "emotion", "context", "past_k", "past_v")
OUTPUTS = ("logits", "present_k", "present_v")
PENALISED = 32  # the repetition penalty falls on the pitches of this many last notes


class Backend(Protocol):
    """A model that continues a batch of sequences."""

    window: int

    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        """Return the logits after the last id, (B, 388), and the new past.

        ids: (B, T) int64. emotion: (B, 64) float32. context: (B, T, 4) int64. past: of an earlier call, or
        None.
        """
        ...


class TorchBackend:
    """A model in PyTorch."""

    def __init__(self, model: MidiGenerator, window: int = 1024) -> None:
        self.model, self.window = model.eval(), window
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        """See Backend."""
        inputs = (torch.from_numpy(array).to(self.device) for array in (ids, emotion, context))
        logits, *present = self.model(*inputs, *(past or self.model.empty_past(len(ids))))
        return logits[:, -1].float().cpu().numpy(), present


class OnnxBackend:
    """A model exported by kwela, on onnxruntime's CPU provider."""

    def __init__(self, path: Path, window: int | None = None, threads: int = 0) -> None:
        """Load a model.

        window: None takes the one in the file's metadata. threads: 0 takes as many as there are cores. Raises
        UserError for a file that is no ONNX model, for another model than a MIDI generator, and for another
        tokenizer.
        """
        import onnxruntime  # this takes 0.1 s, which `kwela --help` does not need

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # the error alone names what is wrong with a file
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class for each kind of failure, in a private module
            raise UserError(f"{path}: onnxruntime can't read it: {str(error).splitlines()[0]}") from None
        about = self.session.get_modelmeta().custom_metadata_map
        ports = {port.name: port.shape for port in self.session.get_inputs()}
        if ports.keys() != set(INPUTS) or [port.name for port in self.session.get_outputs()] != list(OUTPUTS):
            raise UserError(f"{path}: not a MIDI generator (its inputs: {', '.join(ports)})")
        if about.get("tokenizer_hash", tokens.tokenizer_hash()) != tokens.tokenizer_hash():
            raise UserError(f"{path}: made for another tokenizer; export it again")
        length = about.get("window", "1024")
        if not (length.isdecimal() and int(length) >= 16):
            raise UserError(f"{path}: its metadata gives a window of {length[:20]!r}; export it again")
        layers, _, heads, _, head_dim = ports["past_k"]
        self.empty = (layers, heads, head_dim)
        self.window = window or int(length)

    def step(
        self, ids: np.ndarray, emotion: np.ndarray, context: np.ndarray, past: Any
    ) -> tuple[np.ndarray, Any]:
        """See Backend."""
        layers, heads, head_dim = self.empty
        none = np.zeros((layers, len(ids), heads, 0, head_dim), np.float32)
        past_k, past_v = past or (none, none)
        feed = {"input_ids": ids, "emotion": emotion, "context": context, "past_k": past_k, "past_v": past_v}
        logits, *present = self.session.run(OUTPUTS, feed)
        return logits[:, -1], present


class Sampling(NamedTuple):
    """The settings by which an id is chosen."""

    temperature: float = 1.0  # 0 = greedy
    top_k: int = 0  # keep the k likeliest ids; 0 = all
    top_p: float = 1.0  # keep the smallest set with this much probability (Holtzman et al. 2020)
    min_p: float = 0.0  # drop ids less likely than this share of the likeliest (Nguyen et al. 2024)
    repetition_penalty: float = 1.0  # > 1 discourages the pitches of the last notes (Keskar et al. 2019)


def choose(logits: np.ndarray, allowed: np.ndarray, recent: Sequence[int], how: Sampling, draw: float) -> int:
    """Choose the next id. logits, allowed: (388,). recent: pitch ids to penalise. draw: uniform in [0, 1)."""
    scores = np.where(allowed, logits.astype(np.float64), -np.inf)
    if how.repetition_penalty != 1 and recent:
        seen = np.unique(recent)
        scores[seen] *= np.where(scores[seen] > 0, 1 / how.repetition_penalty, how.repetition_penalty)
    if how.temperature == 0:
        return int(scores.argmax())
    scores = np.exp((scores - scores.max()) / how.temperature)
    order = np.argsort(-scores, kind="stable")
    p = scores[order] / scores.sum()
    keep = p > 0
    keep[how.top_k or len(keep) :] = False
    keep &= np.cumsum(p) - p < how.top_p
    keep &= p >= how.min_p * p[0]
    total = np.cumsum(np.where(keep, p, 0))
    return int(order[np.searchsorted(total, draw * total[-1], side="right")])


def generate(
    model: MidiGenerator | Backend,
    emotion: Curve | Vector,
    *,
    bars: int,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    guidance: float = 1.0,
    prompt: np.ndarray | None = None,
    context: np.ndarray | None = None,
) -> np.ndarray:
    """Sample a song of exactly `bars` bars: int16 ids from BOS to EOS.

    emotion: 3 or 64 numbers, NaN = not given, or (first bar, numbers) pairs. prompt: ids of a song to
    continue; its bars count. context: (bars, 4) key, chord root, quality, style. Raises UserError where a
    number is out of range, KwelaError where the model's scores are not finite.
    """
    how = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    _check(how, bars, seed, guidance)
    backend = TorchBackend(model) if isinstance(model, MidiGenerator) else model
    context = np.zeros((bars, 4), np.int64) if context is None else context
    song = _Song(backend, _per_bar(emotion, bars), context, guidance)
    for token in [tokens.BOS] if prompt is None else first_bars(prompt, None):
        song.append(int(token))
    if prompt is not None and song.bar:
        if song.bar >= bars:
            raise UserError(
                f"--prompt: it has {song.bar} bars and --bars asks for {bars} in all: ask for more bars"
            )
        song.append(tokens.BAR)
    rng = np.random.Generator(np.random.PCG64(seed))
    while song.ids[-1] != tokens.EOS:
        logits, allowed = song.logits(), tokens.allowed(song.state)
        if not np.isfinite(logits).all():
            raise KwelaError(
                f"the model's scores are not finite at id {len(song.ids)}: its weights are of no use"
            )
        end, other = (tokens.EOS, tokens.BAR) if song.bar == bars else (tokens.BAR, tokens.EOS)
        logits[end] = np.logaddexp(logits[end], logits[other])  # "this bar is over" is one event
        allowed[other] = False
        if allowed[end] and len(song.ids) - song.bar_start >= backend.window // 2:
            allowed[:] = False  # a bar ends within half a window, so that the cache can start at a bar
            allowed[end] = True
        recent = [token for token in song.ids if token < grammar.VELOCITY][-PENALISED:]
        song.append(choose(logits, allowed, recent, how, rng.random()))
    return np.array(song.ids, np.int16)


class _Song:
    """The ids so far, and a cache that is updated when logits are needed."""

    def __init__(self, backend: Backend, emotions: np.ndarray, context: np.ndarray, guidance: float) -> None:
        self.backend, self.emotions, self.context, self.guidance = backend, emotions, context, guidance
        self.ids: list[int] = []
        self.bars: list[int] = []  # of each id: 0 before the first BAR, then 1..
        self.bar, self.bar_start, self.state = 0, 0, tokens.start()
        self.past: Any = None
        self.first = self.done = 0  # the cache holds ids[first:done]

    def append(self, token: int) -> None:
        self.state = tokens.advance(self.state, token)
        if token == tokens.BAR:
            self.bar, self.bar_start = self.bar + 1, len(self.ids)
        self.ids.append(token)
        self.bars.append(self.bar)

    def logits(self) -> np.ndarray:
        """Return the logits after the last id, (388,) float64."""
        if len(self.ids) - self.first > self.backend.window:
            self.first = self.done = self._prime_from()
            self.past = None
        out = np.zeros(0)
        while self.done < len(self.ids):
            out = self._feed(self._run_end())
        return out

    def _prime_from(self) -> int:
        """Find the BAR nearest half a window back, or half a window back where the window has no BAR."""
        size, window = len(self.ids), self.backend.window
        lines = [i for i in range(size - window + 1, size) if self.ids[i] == tokens.BAR]
        return min(lines, key=lambda i: abs(i - (size - window // 2)), default=size - window // 2)

    def _run_end(self) -> int:
        """Find the end of the ids that are not in the cache and share one emotion."""
        end = self.done + 1
        while end < len(self.ids) and np.array_equal(
            self._emotion(end), self._emotion(self.done), equal_nan=True
        ):
            end += 1
        return end

    def _emotion(self, index: int) -> np.ndarray:
        return self.emotions[max(0, self.bars[index] - 1)]

    def _feed(self, end: int) -> np.ndarray:
        ids = np.array([self.ids[self.done : end]], np.int64)
        bars = np.array(self.bars[self.done : end])
        context = np.where(bars[:, None] > 0, self.context[bars - 1], 0)[None]
        emotions = self._emotion(self.done)[None]
        if self.guidance != 1:  # the second row has no emotion
            ids, context = ids.repeat(2, 0), context.repeat(2, 0)
            emotions = np.concatenate((emotions, np.full_like(emotions, np.nan)))
        logits, self.past = self.backend.step(ids, emotions, context, self.past)
        self.done = end
        conditioned = logits[0].astype(np.float64)
        if self.guidance == 1:
            return conditioned
        return logits[1] + self.guidance * (conditioned - logits[1])


def first_bars(ids: np.ndarray, bars: int | None) -> np.ndarray:
    """Return BOS and the first `bars` bars of a song (None: all of them), without EOS, as a prompt."""
    ids = ids[ids != tokens.EOS]
    lines = np.flatnonzero(ids == tokens.BAR)
    return ids if bars is None or bars >= len(lines) else ids[: lines[bars]]


def _per_bar(curve: Curve | Vector, bars: int) -> np.ndarray:
    """Return the emotion of each bar, (bars, 64) float32."""
    steps: Any = curve if isinstance(curve[0], tuple) else [(0, curve)]
    out = np.empty((bars, emotion.PADDED_SIZE), np.float32)
    for first, vector in steps:
        out[first:] = emotion.to_64d(vector)
    return out


def parse_emotion(text: str) -> list[tuple[int, tuple[float, ...]]]:
    """Read `--emotion` as (first bar, vector) pairs.

    text: "grief", "0.8,0.5,0.6" or a curve "0:grief;8:calm;16:0.8,0.5,0.6". A curve starts at bar 0, and its
    bars ascend. Raises UserError with the part that can't be read.
    """
    if ":" not in text:
        return [(0, emotion.parse(text))]
    curve = []
    for part in text.split(";"):
        match = re.fullmatch(r"\s*(\d{1,9})\s*:(.+)", part)
        if not match:
            raise UserError(
                f"--emotion: {part!r}: write a curve as BAR:EMOTION;BAR:EMOTION, as 0:grief;8:calm"
            )
        curve.append((int(match[1]), emotion.parse(match[2])))
    if curve[0][0] != 0 or any(a[0] >= b[0] for a, b in pairwise(curve)):
        raise UserError(f"--emotion: {text!r}: bars start at 0 and ascend")
    return curve


def _check(how: Sampling, bars: int, seed: int, guidance: float) -> None:
    for name, good, rule in (
        ("--bars", bars >= 1, "at least 1"),
        ("--seed", seed >= 0, "0 or more"),
        ("--guidance", math.isfinite(guidance), "a finite number"),
        ("--temperature", 0 <= how.temperature < math.inf, "0 (greedy) or more, and finite"),
        ("--top-k", how.top_k >= 0, "0 (all) or more"),
        ("--top-p", 0 < how.top_p <= 1, "in (0, 1]"),
        ("--min-p", 0 <= how.min_p < 1, "in [0, 1)"),
        ("--repetition-penalty", 0 < how.repetition_penalty < math.inf, "more than 0, and finite"),
    ):
        if not good:
            raise UserError(f"{name}: must be {rule}")
