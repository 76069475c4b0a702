"""`kwela judge midi`: does a MIDI generator follow the emotion it is given, is it music, is it its own?"""

from __future__ import annotations

from pathlib import Path

from kwela.judge.page import Scorecard


def judge(
    model: Path | None,
    manifest: Path | None,
    training: Path | None,
    human: Path | None,
    *,
    out: Path,
    quick: bool = False,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of a MIDI generator, written to `out` as midi.json, midi.md and pictures.

    model: a checkpoint; manifest, training: JSONL of held-out and training rows; human: a folder in VGMIDI's layout
    for the evaluators. None is the default place. quick: fewer seeds and resamples. Raises UserError for bad input.
    """
    raise NotImplementedError
