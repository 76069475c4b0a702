"""Piano rolls: bar lines and pedal spans where the score has them, and a picture that shows every track."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
from midi_songs import a_score
from symusic import ControlChange, Note, Score, TimeSignature, Track

from kwela.midi_generator import piano_roll


def test_bar_lines_follow_the_meters() -> None:
    score = Score(480)
    score.time_signatures.append(TimeSignature(0, 3, 4))
    score.time_signatures.append(TimeSignature(1440 * 2, 6, 8))
    track = Track("", 0, False)
    track.notes.append(Note(1440 * 4 - 100, 200, 60, 80))
    score.tracks.append(track)
    assert piano_roll.bar_lines(score).tolist() == [0, 1440, 2880, 4320, 5760, 7200]
    assert piano_roll.bar_lines(Score(480)).tolist() == [0, 1920]


def test_pedal_spans_are_cc64_from_64_up() -> None:
    track = Track("", 0, False)
    for time, number, value in (
        (0, 64, 63),
        (10, 64, 64),
        (15, 7, 0),
        (20, 64, 127),
        (30, 64, 0),
        (90, 64, 100),
    ):
        track.controls.append(ControlChange(time, number, value))
    assert piano_roll.pedal_spans(track, 100) == [(10, 30), (90, 100)]


def test_a_picture_shows_each_track_in_its_colour_and_an_empty_score_none(tmp_path: Path) -> None:
    def colours(path: Path) -> set[int]:
        image = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
        wanted = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in piano_roll.COLOURS]
        return {index for index, colour in enumerate(wanted) if (np.abs(image - colour).sum(-1) < 12).any()}

    assert {0, 1} <= colours(piano_roll.draw(a_score(1), tmp_path / "song.png", "a song"))
    assert not colours(piano_roll.draw(Score(24), tmp_path / "folder" / "empty.png"))
    many = colours(piano_roll.draw(a_score(2, 300), tmp_path / "long.png"))
    assert {0, 1} <= many
