"""Spectocloud maps a log-mel spectrogram, an emotion and 32 features of the notes to 1,200 points.

Notable choices:
- A cloud is a sample of a density. The model predicts two densities over pitch and time (one that follows the
  sound, one on the notes), and maps fixed quasi-random numbers through their inverse distribution functions.
  The densities are trained by the likelihood of the target's points, the points by their distance to the
  target. This was measured to learn faster and to end nearer than distances alone, whose gradient is erratic
  where a density is low.
- The inverse is steep where a density is low, and amplifies rounding errors there. Everything that decides
  where points fall is therefore computed in float64, by a small network on each cell's neighbourhood instead
  of deep convolutions.
- A convolutional network sees the whole segment: the spectrogram in semitone rows, with copies that are
  shifted down by its overtones, so that the harmonics of a note stand in one place. It works at half that
  resolution and has a coarse path for context.
- Emotion and notes modulate every block by scale and shift (FiLM, Perez et al. 2018). NaN in the emotion
  means "not given" and is replaced by a learned value of that dimension.
- A point network reads the features at the place of each point, and returns the point's shift, spread,
  height, colour and properties.
- Loudness enters only relative to the segment's peak, as in the target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtri
from torch import Tensor, nn

from kwela.music.emotion import PADDED_SIZE
from kwela.music.midi import FEATURE_NAMES
from kwela.spectocloud import space
from kwela.spectocloud.target import NOTE_POINTS

OVERTONES = (12, 19, 24, 28)  # semitones up to harmonics 2, 3, 4, 5
PLANES = 4 + len(OVERTONES)  # see `planes`
# The neighbourhood from which a cell's densities are predicted: offsets in semitones (harmonics among them)
# and frames.
NEIGHBOURS = (
    *((row, 0) for row in (0, -1, 1, -2, 2, 12, 19, 24, 28, 31, -12, -19, -24)),
    *((0, frame) for frame in (-1, 1, -3, 3)),
)
UNIFORM_SHARE = 5e-3  # of each distribution; it bounds the slope of the inverse


class Film(nn.Module):
    """Scales and shifts channels by a condition vector. Starts as the identity."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x (B, C, H, W), scaled and shifted by condition (B, D)."""
        scale, shift = self.linear(condition)[..., None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class Block(nn.Module):
    """Residual block of norm, FiLM, GELU, 3 x 3 convolution, norm, GELU, 3 x 3 convolution.

    It starts as the identity.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.film = Film(condition, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the block's output (B, C, H, W) for x (B, C, H, W) and condition (B, D)."""
        h = self.conv1(F.gelu(self.film(self.norm1(x), condition)))
        return x + self.conv2(F.gelu(self.norm2(h)))


class Spectocloud(nn.Module):
    """The model of this module.

    width: channels of the fine grid; the coarse grid has 4 x as many, the condition and the point network 2
    x. depth: residual blocks of the coarse grid, and layers of the point network; the fine grid has one block
    more.
    """

    low: Tensor
    fraction: Tensor
    even: Tensor
    normal: Tensor
    note: Tensor

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        wide, twice = 4 * width, 2 * width
        self.null = nn.Parameter(torch.zeros(PADDED_SIZE))
        self.condition = nn.Sequential(
            nn.Linear(PADDED_SIZE + len(FEATURE_NAMES) + space.ROWS, twice),
            nn.GELU(),
            nn.Linear(twice, twice),
            nn.GELU(),
        )
        self.stem = nn.Conv2d(4 * PLANES, width, 1)
        self.fine = nn.ModuleList(Block(width, twice) for _ in range(depth))
        self.down = nn.Conv2d(width, wide, 4, stride=4)
        self.coarse = nn.ModuleList(Block(wide, twice) for _ in range(depth))
        self.up = nn.Conv2d(wide, 16 * width, 1)
        self.last = Block(width, twice)
        self.norm = nn.GroupNorm(1, width)
        self.density = CellNetwork(len(NEIGHBOURS), 24)
        self.points = PointNetwork(width + 1, twice, depth)
        low, fraction = space.semitone_places()
        even = np.hstack([space.quasi_random(space.POINTS, 2), space.quasi_random(space.POINTS, 3)])
        constants = {
            "low": torch.from_numpy(low),
            "fraction": torch.from_numpy(fraction)[:, None].float(),
            "even": torch.from_numpy(even[:, :2]).float(),
            "normal": torch.from_numpy(ndtri(even[:, 2:].clip(1e-3, 1 - 1e-3))).float(),
            "note": (torch.arange(space.POINTS) < NOTE_POINTS).float()[:, None],
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self, spectrogram: Tensor, emotion: Tensor, midi_features: Tensor, with_density: bool = False
    ) -> tuple[Tensor, ...]:
        """Return the cloud of each segment, and with `with_density` the densities it was drawn from.

        spectrogram (B, 128, 64) log10 power, emotion (B, 64) with NaN for "not given", midi_features (B, 32)
        -> positions (B, 1200, 3), colors (B, 1200, 4), properties (B, 1200, 3: size, glow, depth), all in [0,
        1]; density (B, 2, 120, 64): of sound and of notes, over semitone rows and frames, each summing to 1.
        """
        emotion = torch.where(torch.isnan(emotion), self.null, emotion)
        below, above = spectrogram[:, self.low], spectrogram[:, self.low + 1]
        rows = below + self.fraction * (above - below)
        level = (1 + (rows - rows.amax((1, 2), keepdim=True)) * (1 / space.RANGE)).clamp(0, 1)  # (B, 120, 64)
        density = self.density(level)
        condition = self.condition(torch.cat([emotion, midi_features, level.mean(2)], 1))

        h = self.stem(F.pixel_unshuffle(planes(level), 2))  # (B, C, 60, 32)
        for block in self.fine:
            h = block(h, condition)
        c = self.down(h)  # (B, 4 C, 15, 8)
        for block in self.coarse:
            c = block(c, condition)
        h = self.norm(self.last(h + F.pixel_shuffle(self.up(c), 4), condition))

        sound, notes = density.detach().unbind(1)
        note_points = sample_points(notes, self.even[:NOTE_POINTS])
        sound_points = sample_points(sound, self.even[NOTE_POINTS:])
        place = torch.cat([note_points, sound_points], 1)  # (B, 1200, 2)
        near = torch.cat([interpolate(h, place), interpolate(level[:, None], place)], -1)
        own = torch.cat([place, torch.cat([self.normal, self.note], 1).expand(place.shape[0], -1, -1)], -1)
        shift, spread, attributes = self.points(near, condition, own)
        x_y = place + 0.1 * shift[..., :2]
        z = 0.4 + 0.5 * shift[..., 2:]
        positions = (torch.cat([x_y, z], -1) + spread * self.normal).clamp(0, 1)
        cloud = positions, attributes[..., :4], attributes[..., 4:]
        return (*cloud, density.float()) if with_density else cloud


class CellNetwork(nn.Module):
    """Predicts the densities of sound and notes, each cell from its neighbours.

    It computes in float64, except in training and on MPS, which has no float64.
    """

    def __init__(self, neighbours: int, width: int) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(neighbours, width),
            nn.Linear(width, width),
            nn.Linear(width, 2),
        )
        nn.init.zeros_(self.last.weight)

    def forward(self, level: Tensor) -> Tensor:
        """Return the densities (B, 2, 120, 64), each summing to 1, of level (B, 120, 64)."""
        if not self.training and level.device.type != "mps":
            level = level.double()
        x = neighbourhood(level)
        for layer in (self.first, self.second, self.last):
            x = x if layer is self.first else x.relu()
            x = F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
        prior = 3 * (level + 0.01).log()  # most points fall on loud cells; the network corrects this prior
        logits = x.to(level.dtype).permute(0, 3, 1, 2) + prior[:, None]
        return logits.flatten(2).softmax(-1).view_as(logits)


class PointNetwork(nn.Module):
    """Predicts each point from the features at its place, the segment's features and its random numbers."""

    def __init__(self, near: int, width: int, depth: int) -> None:
        super().__init__()
        self.near, self.whole, self.own = nn.Linear(near, width), nn.Linear(width, width), nn.Linear(6, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 3 + 3 + 7)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        nn.init.constant_(
            self.out.bias[3:6], -4.0
        )  # softplus(-4) = 0.018: the spread of a target with high arousal

    def forward(self, near: Tensor, condition: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift (B, N, 3), spread (B, N, 3) and attributes (B, N, 7) of each point.

        near: (B, N, C). condition: (B, D). own: (B, N, 6).
        """
        p = F.gelu(self.near(near) + self.whole(condition)[:, None] + self.own(own))
        for layer in self.layers:
            p = p + F.gelu(layer(p))
        shift, spread, attributes = self.out(p).float().split((3, 3, 7), dim=-1)
        return shift, F.softplus(spread), attributes.sigmoid()


def neighbourhood(level: Tensor) -> Tensor:
    """Return the level at each of NEIGHBOURS, 0 outside: (B, 120, 64) -> (B, 120, 64, 17)."""
    high, wide = (max(abs(offset[axis]) for offset in NEIGHBOURS) for axis in (0, 1))
    rows, frames = level.shape[1:]
    padded = F.pad(level, (wide, wide, high, high))
    shifted = [padded[:, high + r : high + r + rows, wide + f : wide + f + frames] for r, f in NEIGHBOURS]
    return torch.stack(shifted, -1)


def planes(level: Tensor) -> Tensor:
    """Return the input planes of the convolutional network: (B, 120, 64) -> (B, 8, 120, 64).

    They are the level, its cube, its rise in time, the level of each harmonic, and that of the octave below.
    """
    rise = F.pad((level[:, :, 1:] - level[:, :, :-1]).relu(), (1, 0))
    over = [F.pad(level[:, step:], (0, 0, 0, step)) for step in OVERTONES]
    under = F.pad(level[:, :-12], (0, 0, 12, 0))
    return torch.stack([level, level**3, rise, *over, under], 1)


def sample_points(density: Tensor, even: Tensor) -> Tensor:
    """Map quasi-random numbers (n, 2) through a density (B, rows, frames) to points (B, n, 2).

    x and y are in [0, 1]. x follows the distribution over frames. y follows the distribution over rows,
    interpolated at x between the centres of frames. The sums are float64, so that rounding errors stay
    invisible where the inverse is steep.
    """
    if density.device.type != "mps":  # it has no float64
        density = density.double()
    batch, rows, frames = density.shape
    x = inverse_cdf(density.sum(1)[:, None], even[:, 0])  # (B, n)
    left, right, fraction = neighbouring_cells(x, frames)
    columns = density.transpose(1, 2).reshape(-1, rows)
    start = (torch.arange(batch, device=x.device) * frames)[:, None]
    a, b = (
        columns.index_select(0, (start + frame).flatten()).view(batch, -1, rows) for frame in (left, right)
    )
    y = inverse_cdf(torch.lerp(a, b, fraction[..., None]), even[:, 1])
    return torch.stack([x, y], -1).float()


def inverse_cdf(mass: Tensor, u: Tensor) -> Tensor:
    """Return where in [0, 1] the piecewise linear distribution function of `mass` reaches u (n): (B, n).

    mass: (B, 1 or n, bins).
    """
    mass = mass + 1e-12  # without any mass, all places are equally likely
    mass = (1 - UNIFORM_SHARE) * mass / mass.sum(-1, keepdim=True) + UNIFORM_SHARE / mass.shape[-1]
    below = mass.cumsum(-1) - mass
    return ((u[:, None].to(mass.dtype) - below) / mass).clamp(0, 1).mean(-1)


def interpolate(features: Tensor, place: Tensor) -> Tensor:
    """Return features (B, C, H, W) at each place (B, n, 2: x along W, y along H), bilinear: (B, n, C)."""
    batch, channels, height, width = features.shape
    cells = features.permute(0, 2, 3, 1).reshape(-1, channels)
    left, right, across = neighbouring_cells(place[..., 0], width)
    low, high, up = neighbouring_cells(place[..., 1], height)
    start = (torch.arange(batch, device=place.device) * height)[:, None]

    def along_row(row: Tensor) -> Tensor:
        a, b = (cells.index_select(0, ((start + row) * width + column).flatten()) for column in (left, right))
        return torch.lerp(a, b, across.reshape(-1, 1).to(a.dtype))

    return torch.lerp(along_row(low), along_row(high), up.reshape(-1, 1).to(features.dtype)).view(
        batch, -1, channels
    )


def neighbouring_cells(place: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells between whose centres a place in [0, 1] lies, and the fraction of the way."""
    position = (place * cells - 0.5).clamp(0, cells - 1)
    first = position.detach().long().clamp(0, cells - 2)  # clamped too, because `place` may be NaN
    return first, first + 1, position - first


def build(settings: dict[str, Any]) -> Spectocloud:
    """Return a Spectocloud from the `model` group of a config."""
    return Spectocloud(**settings)
