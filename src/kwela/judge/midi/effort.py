"""State how much of everything `kwela judge midi` does, in full and with --quick."""

from __future__ import annotations

from dataclasses import dataclass

from kwela.judge.midi.emotion_grid import FULL_GRID, QUICK_GRID, GridSize


@dataclass(frozen=True)
class Effort:
    """How much is generated, scored and resampled; the page says what --quick leaves out."""

    grid: GridSize
    quality_pieces: int  # pieces for held-out emotions, for quality and memorisation
    shuffles: int  # of the emotions, in the teacher-forced gain
    max_songs: int  # held-out songs that are scored
    max_ids: int | None  # ids of each such song, from its start; None: all
    symbolic_excerpts: int  # at most, of a labelled piece, for the evaluator of the notes
    rendered_excerpts: (
        int  # at most, of a labelled piece, for the evaluator of the rendering; 0: no such evaluator
    )


FULL_EFFORT = Effort(FULL_GRID, 128, 8, 512, None, 8, 3)
QUICK_EFFORT = Effort(QUICK_GRID, 48, 2, 24, 1024, 6, 1)
