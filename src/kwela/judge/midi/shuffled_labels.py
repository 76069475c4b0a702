"""The shuffled-label twin: the same training on the same songs, told emotions that are other songs'.

What a model seems to follow though it can't have learnt it (habits of its architecture, what an evaluator leans to),
its twin follows as well. `write` makes the manifest to train it with; `doubt` looks at what a twin was trained with.
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


def write(training: Path, out: Path, seed: int = 0) -> None:
    """The rows of `training`, each song with the emotion of another, drawn without replacement; paths made absolute.

    Raises UserError for a manifest that can't be read, or whose songs are all told one emotion.
    """
    rows = manifest_rows.read(training, "midi")
    told = {row["group"]: row["emotion"] for row in reversed(rows)}
    if len({json.dumps(emotion) for emotion in told.values()}) < 2:
        raise UserError(f"{training}: every song has the same emotion: there is nothing to shuffle")
    songs = sorted(told)
    other = dict(zip(songs, np.random.default_rng(seed).permutation(songs).tolist(), strict=True))
    lines = []
    for row in rows:
        plain = {key: value for key, value in row.items() if key not in ("emotion64", "where")}
        lines.append(json.dumps(plain | {"emotion": told[other[row["group"]]], "emotion_source": "permuted"}))
    files.write(out, "\n".join(lines) + "\n")


def doubt(training: Sequence[Mapping[str, Any]], manifest: Path) -> str:
    """Why it isn't known that the twin of `manifest` learnt the rows of `training` under shuffled emotions; "" if so.

    Shuffled: no more songs keep their own emotion than chance leaves, and a tenth.
    """
    try:
        theirs = {row["midi_path"]: tuple(row["emotion64"]) for row in manifest_rows.read(manifest, "midi")}
    except UserError as error:
        return f"the manifest that it was trained with can't be read ({error})"
    ours = {row["midi_path"]: tuple(row["emotion64"]) for row in training}
    if not ours.keys() <= theirs.keys():
        return f"it was not trained on the same songs ({manifest})"
    chance = sum((count / len(ours)) ** 2 for count in Counter(ours.values()).values())
    kept = np.mean([theirs[path] == emotion for path, emotion in ours.items()])
    return f"{kept:.0%} of its songs kept their own emotion ({manifest})" if kept > chance + 0.1 else ""
