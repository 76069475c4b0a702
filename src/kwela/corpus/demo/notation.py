"""From an engraved score (MusicXML, ABC) to MIDI that plays it, deterministically.

- music21 parses; the notes are taken out of its tree here and written through symusic, which is ~20x faster
  than music21's own MIDI writer.
- Ties are joined, grace notes and chord symbols left out, transposing instruments written at sounding pitch.
- Repeats are played where the score is whole and its repeat marks are well formed, else it is played through
  once.
- An upbeat is led in by the rest that completes its bar, so that every bar line falls where the meter puts
  it.
- Loudness is what the score says: the dynamic mark in force, plus the accent its place in the bar carries.
  Nothing is drawn at random to look like a performance.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from symusic import core

from kwela.music.midi import KEY_PROFILES

TICKS_PER_QUARTER = 480
MOMENTARY = {"sf", "sfz", "sff", "fz", "rf", "rfz", "sfp", "fp"}  # marks that strike one note and then pass


@dataclass(frozen=True)
class Reading:
    """A score as it will sound, and what had to be decided for it."""

    score: core.ScoreTick
    tempo: str  # "encoded", or "default" where the encoding gives none
    repeats: str  # "none", "played", "not played" (badly formed, or only the beginning was taken)
    excerpt: bool  # True if the music went on after the last bar taken


@dataclass
class Note:
    """A note of a part, in exact fractions of a quarter."""

    onset: Fraction  # in quarters, from the first bar line
    duration: Fraction
    pitch: int
    velocity: int


def source_text(path: Path, tune: int | None = None, bars: int | None = None) -> tuple[list[str], bool]:
    """Return the text that music21 parses: (one text per voice file, True if music was cut away).

    path: .mxl, .xml, .musicxml, or .abc. tune: the X: number of one tune of an ABC file; None takes all of
    them as the voices of one piece. bars: cut MusicXML after so many measures, because parsing takes time by
    the note.
    """
    if path.suffix == ".abc":
        tunes = re.split(r"(?m)^(?=X: *\d)", path.read_text(encoding="utf-8", errors="replace"))[1:]
        return [t for t in tunes if tune is None or int(re.match(r"X: *(\d+)", t)[1]) == tune], False  # type: ignore[index]
    text = _musicxml(path)
    if bars is None:
        return [text], False
    head, parts = text[: text.index("<part ")], re.findall(r"<part .*?</part>", text, re.S)
    ends = [[m.end() for m in re.finditer("</measure>", part)] for part in parts]
    kept = [
        part[: end[bars - 1]] + "</part>" if len(end) > bars else part
        for part, end in zip(parts, ends, strict=True)
    ]
    return [head + "".join(kept) + "</score-partwise>"], any(len(end) > bars for end in ends)


def _musicxml(path: Path) -> str:
    if path.suffix != ".mxl":
        return path.read_text(encoding="utf-8")
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if not n.startswith("META-INF") and n.endswith("xml"))
        return archive.read(name).decode("utf-8")


def read(
    texts: list[str], form: str, *, program: int, quarters_per_minute: float, seconds: float, cut: bool
) -> Reading:
    """Parse `texts` (the voices of one piece) and return the first `seconds` of it, to the last whole bar.

    form: "abc" or "musicxml". program (GM 0..127) and quarters_per_minute stand in where the encoding gives
    none. Raises whatever music21 raises for a text it can't parse, and ValueError for a piece without notes.
    """
    from music21 import converter, repeat

    scores: list[Any] = [converter.parseData(text, format=form) for text in texts]
    repeats = "none"
    if any(score.recurse().getElementsByClass("RepeatMark") for score in scores):
        repeats = "not played"
        if not cut:
            for score in scores:
                _open_sections(score)
            with contextlib.suppress(repeat.ExpanderException):
                scores, repeats = [score.expandRepeats() for score in scores], "played"
    parts = [part for score in scores for part in score.parts]
    upbeat = _upbeat(parts[0])
    meters = _meters(parts[0], upbeat)
    marks = [
        (Fraction(m.getOffsetInHierarchy(score)) + upbeat, float(m.getQuarterBPM()))
        for score in scores
        for m in score.recurse().getElementsByClass("MetronomeMark")
        if m.getQuarterBPM()
    ]
    tempos = _changes({Fraction(0): min(marks)[1] if marks else quarters_per_minute} | dict(sorted(marks)))
    tracks = [_notes(part, upbeat, meters) for part in parts]
    length = max((n.onset + n.duration for notes in tracks for n in notes), default=Fraction(0))
    if not length:
        raise ValueError("no notes")
    end = _last_bar_line(meters, tempos, length, seconds)
    score = core.ScoreTick(TICKS_PER_QUARTER)
    score.tempos = core.TempoTickList(
        [core.TempoTick(_tick(at), mspq=round(60e6 / bpm)) for at, bpm in tempos.items() if at < end]
    )
    score.time_signatures = core.TimeSignatureTickList(
        [core.TimeSignatureTick(_tick(at), *m) for at, m in meters.items() if at < end]
    )
    for part, notes in zip(parts, tracks, strict=True):
        track = core.TrackTick(part.partName or "", _program(part, program), False)
        track.notes = core.NoteTickList(_clean(notes, end))
        if len(track.notes):
            score.tracks.append(track)
    return Reading(score, "encoded" if marks else "default", repeats, cut or end < length)


def key_of(score: core.ScoreTick) -> tuple[int, str, float]:
    """(tonic pitch class 0..11, "major" or "minor", correlation -1..1) of the nearest of the 24 keys.

    Krumhansl-Schmuckler: the correlation of pitch-class durations with each rotated profile (Krumhansl 1990,
    ch. 4).
    """
    weights = np.zeros(12)
    for track in score.tracks:
        notes = track.notes.numpy()
        np.add.at(weights, notes["pitch"] % 12, notes["duration"])
    rotated = [np.roll(profile, tonic) for profile in KEY_PROFILES for tonic in range(12)]
    fit = [float(np.corrcoef(weights, profile)[0, 1]) for profile in rotated]
    best = int(np.argmax(fit))
    return best % 12, ("major", "minor")[best // 12], fit[best]


def _open_sections(score: Any) -> None:
    """Where a repeated section is closed but never opened, open it after the one before.

    By convention ":|" goes back to the last one; music21 would go back to the very beginning and play that
    again.
    """
    from music21 import bar

    for part in score.parts:
        endings = {
            id(m) for b in part.recurse().getElementsByClass("RepeatBracket") for m in b.getSpannedElements()
        }
        measures = list(part.getElementsByClass("Measure"))
        closed = [i for i, m in enumerate(measures) if _repeats(m.rightBarline, "end")]
        for before, after in pairwise(closed):
            section = [m for m in measures[before + 1 : after + 1] if id(m) not in endings]
            if section and not any(_repeats(m.leftBarline, "start") for m in section):
                section[0].leftBarline = bar.Repeat(direction="start")


def _repeats(barline: Any, direction: str) -> bool:
    return barline is not None and "Repeat" in barline.classes and barline.direction == direction


def _tick(quarters: Fraction) -> int:
    return int(quarters * TICKS_PER_QUARTER + Fraction(1, 2))


def _program(part: Any, default: int) -> int:
    encoded = part.getInstrument(returnDefault=False)
    return default if encoded is None or encoded.midiProgram is None else int(encoded.midiProgram)


def _upbeat(part: Any) -> Fraction:
    """Return the rest, in quarters, that a first bar lacks before its notes."""
    first = part.getElementsByClass("Measure").first()
    return Fraction(first.paddingLeft) if first is not None else Fraction(0)


def _meters(part: Any, upbeat: Fraction) -> dict[Fraction, tuple[int, int]]:
    """Onset in quarters -> (numerator, denominator), only where it changes; the first is at 0."""
    found = {Fraction(0): (4, 4)}
    for t in part.recurse().getElementsByClass("TimeSignature"):
        offset = Fraction(t.getOffsetInHierarchy(part))
        found[offset + upbeat if offset else offset] = (t.numerator, t.denominator)
    return _changes(found)


def _changes(found: dict[Fraction, Any]) -> dict[Fraction, Any]:
    """In order of time, without the entries that say what held already."""
    ordered = sorted(found.items(), key=lambda entry: entry[0])
    return dict(ordered[:1] + [after for before, after in pairwise(ordered) if before[1] != after[1]])


def _last_bar_line(
    meters: dict[Fraction, tuple[int, int]], tempos: dict[Fraction, float], length: Fraction, seconds: float
) -> Fraction:
    """Return the last bar line at or before `seconds`, or the music's end, in quarters; one bar or more."""
    clock, bar = 0.0, Fraction(0)
    while bar < length:
        numerator, denominator = [m for at, m in meters.items() if at <= bar][-1]
        following = bar + Fraction(4 * numerator, denominator)
        changes = [at for at in tempos if bar < at < following]
        for start, stop in pairwise([bar, *changes, following]):
            clock += float(stop - start) * 60 / [bpm for at, bpm in tempos.items() if at <= start][-1]
        if clock > seconds and bar:
            return bar
        bar = following
    return length


def _notes(part: Any, upbeat: Fraction, meters: dict[Fraction, tuple[int, int]]) -> list[Note]:
    """Return the sounding notes of a part in order of onset, ties joined."""
    if any(i.transposition is not None for i in part.recurse().getElementsByClass("Instrument")):
        part.toSoundingPitch(inPlace=True)
    loudness = sorted(
        (Fraction(d.getOffsetInHierarchy(part)) + upbeat, d.value, float(d.volumeScalar))
        for d in part.recurse().getElementsByClass("Dynamic")
    )
    lasting = [(at, scalar) for at, value, scalar in loudness if value not in MOMENTARY]
    struck = {at for at, value, _ in loudness if value in MOMENTARY}
    found: list[Note] = []
    tied: dict[int, Note] = {}
    for measure in list(part.getElementsByClass("Measure")) or [part]:  # mensural encodings have no bar lines
        bar = Fraction(measure.offset if measure is not part else 0) + upbeat
        for voice in list(measure.voices) or [measure]:
            start = bar + (Fraction(voice.offset) if voice is not measure else 0)
            for element in voice.notes:
                if element.duration.isGrace or "ChordSymbol" in element.classes:
                    continue
                onset = start + Fraction(element.offset)
                duration = Fraction(element.duration.quarterLength)
                scalar = next((s for at, s in reversed(lasting) if at <= onset), 0.5)
                velocity = round(30 + 90 * scalar + _accent(onset, meters) + (16 if onset in struck else 0))
                for single in element.notes if element.isChord else [element]:
                    pitch = int(single.pitch.midi)
                    tie = single.tie.type if single.tie is not None else None
                    held = tied.pop(pitch, None)
                    if (
                        tie in ("stop", "continue")
                        and held is not None
                        and held.onset + held.duration == onset
                    ):
                        held.duration += duration
                    else:
                        held = Note(onset, duration, pitch, min(max(velocity, 1), 127))
                        found.append(held)
                    if tie in ("start", "continue"):
                        tied[pitch] = held
    return sorted(found, key=lambda n: (n.onset, n.pitch))


def _accent(onset: Fraction, meters: dict[Fraction, tuple[int, int]]) -> int:
    """Velocity added by metrical weight: bar line 8, half bar 4, other beats 0, between beats -6.

    A beat is a dotted one where the numerator is 6, 9 or 12.
    """
    since, (numerator, denominator) = [(at, meter) for at, meter in meters.items() if at <= onset][-1]
    place = (onset - since) % Fraction(4 * numerator, denominator)
    dotted = numerator % 3 == 0 and numerator > 3
    beat = Fraction(4, denominator) * (3 if dotted else 1)
    beats = numerator // 3 if dotted else numerator
    if place == 0:
        return 8
    if place % beat:
        return -6
    return 4 if beats % 2 == 0 and place == beat * beats / 2 else 0


def _clean(notes: list[Note], end: Fraction) -> list[core.NoteTick]:
    """Return the notes before `end` in ticks.

    Of one onset and pitch it is the longest, and each is cut where its pitch sounds again.
    """
    by_pitch: dict[int, list[tuple[int, int, int]]] = {}
    for n in notes:
        start, stop = _tick(n.onset), _tick(min(n.onset + n.duration, end))
        if stop > start:
            by_pitch.setdefault(n.pitch, []).append((start, stop, n.velocity))
    out = []
    for pitch, spans in by_pitch.items():
        longest = {start: (stop, velocity) for start, stop, velocity in sorted(spans)}
        for (start, (stop, velocity)), following in zip(
            longest.items(), [*list(longest)[1:], None], strict=True
        ):
            out.append((start, pitch, min(stop, following) - start if following else stop - start, velocity))
    return [
        core.NoteTick(start, duration, pitch, velocity) for start, pitch, duration, velocity in sorted(out)
    ]
