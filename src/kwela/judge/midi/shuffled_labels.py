"""Make and check the training rows of a shuffled-label twin.

A twin has the same training as the model, on the same songs, but each song has another song's emotion. A
model may seem to follow an emotion that it can't have learnt, by habits of its architecture or by what an
evaluator prefers. Its twin then seems to follow the emotion as well. `write_shuffled_rows` makes the manifest
to train a twin with; `reason_for_doubt` checks what a twin was trained with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kwela import files
from kwela.corpus.pairs import rows as manifest_rows
from kwela.errors import UserError
from kwela.midi_generator.config import MidiGeneratorData

_SHARE_ABOVE_CHANCE = 0.1  # of songs that may keep their emotion, beyond those that do by chance


def write_shuffled_rows(training: Path, out: Path, seed: int = 0) -> None:
    """Write the rows of `training` with emotions permuted among the songs; paths are made absolute.

    Raises UserError for a manifest that can't be read, or in which all songs have the same emotion.
    """
    rows = manifest_rows.read(training, MidiGeneratorData.row_keys)
    emotion_of = {row["group"]: row["emotion"] for row in reversed(rows)}
    if len({json.dumps(emotion) for emotion in emotion_of.values()}) < 2:
        raise UserError(f"{training}: every song has the same emotion: there is nothing to shuffle")
    songs = sorted(emotion_of)
    other_song = dict(zip(songs, np.random.default_rng(seed).permutation(songs).tolist(), strict=True))
    lines = []
    for row in rows:
        as_written = {key: value for key, value in row.items() if key not in manifest_rows.ADDED_KEYS}
        emotion = emotion_of[other_song[row["group"]]]
        lines.append(json.dumps(as_written | {"emotion": emotion, "emotion_source": "permuted"}))
    files.write(out, "\n".join(lines) + "\n")


def reason_for_doubt(training: Sequence[Mapping[str, Any]], manifest: Path) -> str:
    """Return why it isn't known that a twin learnt the rows of `training` under shuffled emotions.

    "" if it is known. manifest: of the twin's training. Emotions count as shuffled if no more songs keep
    their own than chance leaves, and a tenth.
    """
    try:
        twin_rows = manifest_rows.read(manifest, MidiGeneratorData.row_keys)
    except UserError as error:
        return f"the manifest that it was trained with can't be read ({error})"
    twin_emotions = {row["midi_path"]: tuple(row["emotion64"]) for row in twin_rows}
    emotions = {row["midi_path"]: tuple(row["emotion64"]) for row in training}
    if not emotions.keys() <= twin_emotions.keys():
        return f"it was not trained on the same songs ({manifest})"
    chance = sum((count / len(emotions)) ** 2 for count in Counter(emotions.values()).values())
    kept = np.mean([twin_emotions[path] == emotion for path, emotion in emotions.items()])
    if kept > chance + _SHARE_ABOVE_CHANCE:
        return f"{kept:.0%} of its songs kept their own emotion ({manifest})"
    return ""
