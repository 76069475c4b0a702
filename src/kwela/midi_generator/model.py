"""Define the MIDI generator: emotion and musical context in, a distribution over the next of 388 ids out.

Notable choices:
- decoder-only, rotary positions, pre-norm, no biases; LayerNorm, because it has a fast CPU kernel and RMSNorm
  has none;
- emotion enters by cross-attention on every second layer, as several condition tokens: one for each named
  dimension, one for the user's own further numbers, and a learned sink. A single token would add the same
  constant everywhere, because a softmax over one value is 1;
- NaN in `emotion` means "not given" and becomes the learned null of that dimension. Classifier-free guidance
  (Ho & Salimans 2022) compares with this null;
- context (key, chord root, chord quality, style of each id's bar) is added to the embedding; 0 adds nothing;
- one forward serves training (no past, no cache) and decoding (past in, present out, keys already rotated).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kwela.midi_generator import attention
from kwela.music import grammar
from kwela.music.emotion import DIMENSION_NAMES, PADDED_SIZE

VOCAB = grammar.VOCAB
NAMED = len(DIMENSION_NAMES)  # dimensions of emotion that have a condition token each
FURTHER = PADDED_SIZE - NAMED  # numbers of the user's own, which share one token
CONTEXT = (25, 13, 17, 65)  # sizes, 0 = absent: 24 keys, 12 chord roots, 16 chord qualities, 64 styles
HARMONICS = 4  # an emotion number x in [-1, 1] is described by x and sin, cos of k pi x / 2, k = 1..4


class EmotionTokens(nn.Module):
    """Turn emotions (B, 64), NaN where not given, into condition tokens (B, NAMED + 2, width)."""

    harmonic: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.randn(NAMED, 1 + 2 * HARMONICS, width) / (1 + 2 * HARMONICS) ** 0.5)
        self.rest = nn.Parameter(torch.randn(FURTHER, width) / FURTHER**0.5)
        self.null = nn.Parameter(torch.randn(PADDED_SIZE, width))  # stands in for a number that is not given
        self.kind = nn.Parameter(torch.randn(NAMED + 2, width))  # which token is which; the last is the sink
        self.norm = nn.LayerNorm(width, bias=False)
        self.register_buffer("harmonic", torch.arange(1, HARMONICS + 1) * (torch.pi / 2), persistent=False)

    def forward(self, emotion: Tensor) -> Tensor:
        """Return the condition tokens of `emotion`."""
        absent = torch.isnan(emotion)
        filled = torch.where(absent, torch.zeros_like(emotion), emotion)
        value = filled[:, :NAMED, None]  # (B, NAMED, 1)
        waves = value * self.harmonic  # (B, NAMED, HARMONICS)
        features = torch.cat((value, waves.sin(), waves.cos()), -1)
        named = torch.einsum("bdf,dfw->bdw", features, self.scalar)
        named = torch.where(absent[:, :NAMED, None], self.null[:NAMED], named)
        absent_further = absent[:, NAMED:].to(filled.dtype) @ self.null[NAMED:] / FURTHER**0.5
        further = (filled[:, NAMED:] @ self.rest + absent_further)[:, None]
        tokens = torch.cat((named, further, torch.zeros_like(further)), 1) + self.kind
        return self.norm(tokens)


class Block(nn.Module):
    """A layer: self-attention, then cross-attention to the emotion tokens if `cross`, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        if cross:
            self.cross_norm = nn.LayerNorm(width, bias=False)
            self.cross_q = nn.Linear(width, width, bias=False)
            self.cross_kv = nn.Linear(width, 2 * width, bias=False)
            self.cross_out = nn.Linear(width, width, bias=False)
        self.cross = cross
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(
        self, x: Tensor, emotion: Tensor, rotation: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the layer.

        x: (B, T, W). past: rotated keys and values (B, H, P, D). Returns x, keys and values (B, H, P + T, D).
        """
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, T, H, D)
        q, k, v = rotate(q, rotation).transpose(1, 2), rotate(k, rotation).transpose(1, 2), v.transpose(1, 2)
        if past is None:
            y = attention.causal(q, k, v)
        else:
            k, v = torch.cat((past[0].to(k.dtype), k), 2), torch.cat((past[1].to(v.dtype), v), 2)
            y = attention.cached(q, k, v)
        x = x + self.drop(self.out(y.transpose(1, 2).flatten(2)))
        if self.cross:
            x = x + self.drop(self.cross_attend(self.cross_norm(x), emotion))
        return x + self.drop(self.down(F.gelu(self.up(self.mlp_norm(x))))), k, v

    def cross_attend(self, x: Tensor, emotion: Tensor) -> Tensor:
        """Return what positions x (B, T, W) take from the emotion tokens."""
        q = self.cross_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D)
        # k, v: (B, H, NAMED + 2, D)
        k, v = self.cross_kv(emotion).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: with so few keys, SDPA's kernel is eight times slower than two small matmuls.
        weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
        return self.cross_out((weights @ v).transpose(1, 2).flatten(2))

    def drop(self, x: Tensor) -> Tensor:
        """Apply dropout in training."""
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Apply the rotary embedding (Su et al. 2021), with halves paired.

    x: (B, T, H, D). rotation: cos and signed sin, (T, 1, D).
    """
    cos, sin = rotation
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class MidiGenerator(nn.Module):
    """The model that the module describes; each head has width / heads dimensions."""

    frequency: Tensor

    def __init__(self, layers: int, width: int, heads: int, cross_every: int, dropout: float) -> None:
        super().__init__()
        self.layers, self.heads, self.head_dim = layers, heads, width // heads
        self.embed = nn.Embedding(VOCAB, width)
        self.context = nn.ModuleList(nn.Embedding(size, width, padding_idx=0) for size in CONTEXT)
        self.emotion = EmotionTokens(width)
        self.blocks = nn.ModuleList(
            Block(width, heads, dropout, cross=i % cross_every == 0) for i in range(layers)
        )
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, VOCAB, bias=False)
        half = torch.arange(self.head_dim // 2) / (self.head_dim // 2)
        self.register_buffer("frequency", 10_000.0**-half, persistent=False)  # radians a position
        self.apply(self._init)
        for block in self.blocks:  # the residual stream starts near the embedding at any depth (GPT-2)
            for name, parameter in block.named_parameters():
                if name in ("out.weight", "cross_out.weight", "down.weight"):
                    nn.init.normal_(parameter, std=0.5 * (parameter.shape[1] * 2 * layers) ** -0.5)

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            # With the usual 0.02 instead of 1, the blocks outweigh the embedding, and learning takes longer.
            nn.init.normal_(module.weight)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])

    def forward(
        self,
        input_ids: Tensor,
        emotion: Tensor,
        context: Tensor,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the logits of the id after each of `input_ids`.

        input_ids: (B, T) int64. emotion: (B, 64) float, NaN = not given. context: (B, T, 4) int64: key 0-24,
        chord root 0-12, chord quality 0-16 and style 0-64 of each id's bar, 0 = absent. past_k, past_v:
        (layers, B, heads, P, head_dim) float32, P >= 0; input i has position P + i. Returns logits (B, T,
        388) and the past with T more entries, or None, None where no past came in (training).
        """
        x = self.embed(input_ids)
        for column, table in enumerate(self.context):
            x = x + table(context[..., column])
        rotation = self.rotation(0 if past_k is None else past_k.shape[3], input_ids.shape[1], x)
        condition = self.emotion(emotion)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            past = None if past_k is None or past_v is None else (past_k[layer], past_v[layer])
            x, k, v = block(x, condition, rotation, past)
            keys.append(k)
            values.append(v)
        logits = self.head(self.norm(x))
        if past_k is None:
            return logits, None, None
        return logits, torch.stack(keys).float(), torch.stack(values).float()

    def rotation(self, start: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and signed sin of positions start to start + length - 1: (T, 1, D) each."""
        angle = torch.arange(start, start + length, device=like.device)[:, None, None] * self.frequency
        cos, sin = angle.cos(), angle.sin()
        dtype = (
            torch.get_autocast_dtype(like.device.type)
            if torch.is_autocast_enabled(like.device.type)
            else like.dtype
        )
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)

    def empty_past(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return a past of no positions, for the first call of a cached decoding."""
        shape = (self.layers, batch, self.heads, 0, self.head_dim)
        device = self.embed.weight.device
        return torch.zeros(shape, device=device), torch.zeros(shape, device=device)


def build(settings: dict[str, Any]) -> MidiGenerator:
    """Build the model of a checkpoint's `config["model"]`; keys as `config.MidiGeneratorModelSettings`."""
    keys = ("layers", "width", "heads", "cross_every", "dropout")
    return MidiGenerator(**{key: settings[key] for key in keys})
