"""Fit the coefficients of chords and keys: `python benchmarks/fit_context.py FOLDER [--half]`.

FOLDER holds POP909-CL (see pop909.py). Songs with even numbers are fitted; `--half` fits those divisible by 4
alone, so that choices can be tried on the other even ones. Writes src/kwela/music/harmony.json.

Chords: multinomial logistic regression over 12 roots x 16 qualities, one table for all roots, on every third
beat of the songs. Pop songs hardly have diminished sevenths, augmented or minor-major chords, and their
labels often leave sevenths out; so made chords stand beside them (`made_chords`, share SHARE of the loss),
of all qualities alike. Keys: the same over 12 tonics x 2 modes, on the stretches of one key.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import pop909
from kwela.music import beat_grid, chords, key

OUT = Path(chords.__file__).parent / "harmony.json"
SHARE, PENALTY, KEY_PENALTY, KEY_SHARE = 0.2, 1e-4, 3e-4, 0.2
# Labels leave out many sevenths that sound; this many nats in favour of 7, maj7 and min7 find twice as many, at
# .004 of the roots (chosen on even songs).
SEVENTHS, FOR_SEVENTHS = [4, 5, 6], 1.7
# maj6 counts twice among the made chords, because an inverted min7 holds the same notes.
MADE = np.where(np.arange(16) == 13, 2, 1) / 17
MADE_BARS, PIECE, EVERY, STEPS = 1800, 6, 3, 60


def made_rows(rng: np.random.Generator, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and the chord of each beat of made songs of PIECE bars each."""
    features, labels = [], []
    for _ in range(bars // PIECE):
        sounding, grid, label = made_chords(rng, PIECE)
        features.append(chords.features(sounding, grid))
        labels.append(label)
    return np.concatenate(features), np.concatenate(labels)


def made_chords(rng: np.random.Generator, bars: int) -> tuple[np.ndarray, beat_grid.Beats, np.ndarray]:
    """Return (sounding, beats, chord of each beat) of random chords: one or two a bar, block or broken, with
    doublings, the root in the bass in nine of ten, and a melody of chord tones and others.
    """
    beats = 4 * bars
    sounding = np.zeros((beats, 128), np.float32)
    label = np.zeros(beats, np.int64)
    for half in range(2 * bars):
        at = 2 * half
        if half % 2 == 0 or rng.random() < 0.5:
            root, quality = int(rng.integers(12)), int(rng.choice(16, p=MADE))
            tones = (np.array(chords.TONES[quality]) + root) % 12
            bass = tones[0] if rng.random() < 0.9 else rng.choice(tones)
            floor = int(rng.integers(30, 54))
            low = floor + (bass - floor) % 12
            upper = low + 3 + (tones - low - 3) % 12 + 12 * rng.integers(0, 2)
            broken, tune = rng.random() < 0.4, rng.random() < 0.6
        label[at : at + 2] = 16 * root + quality
        for beat in (at, at + 1):
            sounding[beat, low] = rng.uniform(0.3, 1)
            keep = rng.random(len(upper)) < (0.6 if broken else 1.0)
            sounding[beat, upper[keep]] = rng.uniform(0.25, 1, keep.sum())
            if tune:
                pitch = rng.choice(tones) if rng.random() < 0.7 else rng.integers(12)
                sounding[beat, 72 + pitch] += rng.uniform(0.2, 0.8)
    place = np.arange(beats) % 4
    strength = np.array([0, 2, 1, 2])[place]
    grid = beat_grid.Beats(np.arange(beats + 1) * 24, np.arange(beats) // 4, place, strength)
    return sounding, grid, label


def by_root(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Score (n, blocks * 12) by weights (blocks, 12, classes) for each root: (n, 12 * classes)."""
    rolled = torch.stack([torch.roll(weights, root, 1) for root in range(12)], 2)
    return x @ rolled.reshape(x.shape[1], -1)


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int, penalty: float, steps: int):
    """Fit one table for all roots; y = classes * root + class. Returns weights and biases."""
    table = torch.zeros(x.shape[1] // 12, 12, classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    inputs, labels, share = torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(weight).float()
    search = torch.optim.LBFGS(
        [table, bias], max_iter=steps, history_size=12, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def loss():
        search.zero_grad()
        each = cross_entropy(by_root(inputs, table) + bias.repeat(12), labels, reduction="none")
        value = each @ share + penalty * (table.square().sum() + bias.square().sum())
        value.backward()
        return value

    search.step(loss)
    return table.detach().double().numpy().round(2), bias.detach().double().numpy().round(2)


def stretches(keys: np.ndarray) -> list[tuple[int, int]]:
    cuts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    return [span for span in pairwise(cuts) if span[1] - span[0] >= key.SHORTEST]


def usual(chosen: list[pop909.Song]) -> np.ndarray:
    """Return KEY_SHARE x the log odds of each degree and quality in a mode against all roots: (2, 12, 16)."""
    count = np.full((2, 12, 16), 0.5)
    for song in chosen:
        at = song.key[song.grid.bar]
        named = song.root >= 0
        degree = (song.root - at) % 12
        np.add.at(count, (at[named] // 12, degree[named], song.quality[named]), 1)
    by_mode = count / count.sum((1, 2), keepdims=True)
    any_root = count.sum((0, 1)) / count.sum() / 12
    return KEY_SHARE * np.clip(np.log(by_mode / any_root), -3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(pop909.songs(options.folder, 4 if options.half else 2))
    heard = [beat_grid.sounding(song.notes, song.grid) for song in chosen]
    rows = [chords.features(sound, song.grid) for sound, song in zip(heard, chosen, strict=True)]
    labelled = [np.flatnonzero(song.root >= 0)[::EVERY] for song in chosen]
    x = np.concatenate([row[at] for row, at in zip(rows, labelled, strict=True)])
    y = np.concatenate([(16 * s.root + s.quality)[at] for s, at in zip(chosen, labelled, strict=True)])
    made_x, made_label = made_rows(np.random.default_rng(0), MADE_BARS)
    weight = np.append(np.full(len(x), (1 - SHARE) / len(x)), np.full(len(made_x), SHARE / len(made_x)))
    table, bias = fit(np.concatenate([x, made_x]), np.append(y, made_label), weight, 16, PENALTY, STEPS)
    bias[SEVENTHS] += FOR_SEVENTHS
    stored = {
        "made_by": "python benchmarks/fit_context.py POP909_CL",
        "songs": len(chosen),
        "chord": table.tolist(),
        "chord_bias": bias.round(2).tolist(),
    }
    key_x, key_y = [], []
    spread, biases = chords.spread(table), np.tile(bias, 12)
    for song, sound, row in zip(chosen, heard, rows, strict=True):
        evidence = key.bar_evidence(chords.softmax(row @ spread + biases), sound, song.grid)
        for first, end in stretches(song.key):
            key_x.append(key.stretch_features(evidence, first, end))
            key_y.append(song.key[first])
    keys = np.array(key_y)
    share = np.full(len(keys), 1 / len(keys))
    table, bias = fit(np.stack(key_x), 2 * (keys % 12) + keys // 12, share, 2, KEY_PENALTY, STEPS)
    stored |= {"key": table.tolist(), "key_bias": bias.tolist()}
    stored["usual"] = usual(chosen).round(2).tolist()
    OUT.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(chosen)} songs, {len(y)} beats, {len(keys)} stretches of a key")


if __name__ == "__main__":
    main()
