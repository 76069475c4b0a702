"""The demo corpus: real music, its rights, the same bytes each time, and nothing half made after a kill."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import music21
import numpy as np
import pytest
import soundfile
from symusic.core import NoteTick, ScoreTick, TrackTick

from kwela.corpus.demo import build as demo
from kwela.corpus.demo import notation
from kwela.corpus.pairs import split
from kwela.errors import KwelaError, UserError
from kwela.music import emotion, midi

PIECES = 4
CORPUS = Path(music21.__file__).parent / "corpus"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.Report]:
    out = tmp_path_factory.mktemp("demo")
    return out, demo.build(out, PIECES, workers=1, quiet=True)


def rights(out: Path) -> list[dict[str, object]]:
    return list(json.loads((out / "rights.json").read_text(encoding="utf-8")))


def files(out: Path, pattern: str) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.glob(pattern))}


# ------------------------------------------------------------------- the build


def test_audio_sounds_and_lasts_as_long_as_the_midi(built: tuple[Path, demo.Report]) -> None:
    out, report = built
    found = sorted(out.glob("midi/*/*.mid"))
    assert len(found) == report.pieces == PIECES and not report.failed
    for file in found:
        audio, rate = soundfile.read(out / "audio" / file.parent.name / f"{file.stem}.wav")
        score = midi.read(file).to("second")
        assert abs(len(audio) / rate - max(n.end for t in score.tracks for n in t.notes)) < 0.05
        assert np.sqrt((audio**2).mean()) > 0.01
        assert np.abs(audio).max() < 1
        assert 15 < len(audio) / rate <= demo.SECONDS + 0.05


def test_a_piece_of_this_version_is_the_recorded_one(built: tuple[Path, demo.Report]) -> None:
    out, _ = built
    (row,) = [row for row in rights(out) if row["title"] == "Miss Callander's Minuet"]
    facts = ("emotion", "key", "key_fit", "onsets_per_second", "meter", "notes", "seconds", "repeats")
    (track,) = midi.read(out / str(row["midi"])).tracks
    notes = [(note.time, note.duration, note.pitch, note.velocity) for note in track.notes[:5]]
    why = "another piece than recorded: raise kwela.corpus.demo.build.CORPUS_VERSION"
    assert demo.CORPUS_VERSION == 1
    assert [row[key] for key in facts] == ["calm", "G major", 0.841, 3.698, "3/4", 142, 38.4, "played"], why
    assert notes == [(0, 480, 74, 83), (480, 480, 74, 75), (960, 480, 72, 75), (1440, 720, 71, 83),
                     (2160, 240, 72, 69)], why  # fmt: skip


def test_each_piece_records_its_rights_and_where_they_were_read(built: tuple[Path, demo.Report]) -> None:
    out, _ = built
    rows = rights(out)
    assert len(rows) == PIECES
    for row in rows:
        for key in (
            "title",
            "composer",
            "collection",
            "source",
            "encoder",
            "terms",
            "rights",
            "rights_source",
        ):
            assert isinstance(row[key], str) and row[key], (row["midi"], key)
        assert row["emotion_source"] == "derived: mode-and-tempo rule"
        assert (out / str(row["audio"])).is_file() and (out / str(row["midi"])).is_file()


def test_folders_are_words_the_thesaurus_reads(built: tuple[Path, demo.Report]) -> None:
    out, report = built
    assert "derived" in report.summary()
    for file in out.glob("*/*/*.*"):
        assert emotion.from_path(file).source.find(file.parent.name) >= 0
    for words in demo.EMOTIONS.values():
        for _, word in words:
            assert emotion.lookup(word).emotion


def test_the_same_seed_gives_the_same_midi_bytes(built: tuple[Path, demo.Report], tmp_path: Path) -> None:
    out, _ = built
    demo.build(tmp_path / "again", PIECES, workers=1, quiet=True)
    assert files(tmp_path / "again", "midi/*/*.mid") == files(out, "midi/*/*.mid")
    assert rights(tmp_path / "again") == rights(out)
    assert {p["stem"] for p in demo.choose(PIECES, 1)} != {p["stem"] for p in demo.choose(PIECES, 0)}


def test_a_killed_build_leaves_no_half_file_and_goes_on(
    built: tuple[Path, demo.Report], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    build = "demo.build(sys.argv[1], 4, workers=1, quiet=True)"
    code = f"import sys; from kwela.corpus.demo import build as demo; {build}"
    running = subprocess.Popen([sys.executable, "-c", code, str(out)])
    while running.poll() is None and not list(out.glob("midi/*/*.mid")):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    left = files(out, "midi/*/*.mid")
    assert 0 < len(left) < PIECES
    for path in out.glob("audio/*/[!.]*.wav"):
        soundfile.read(path)
    (out / "midi" / "happy").mkdir(exist_ok=True)
    (out / "midi" / "happy" / ".torn.mid.tmp").write_bytes(b"MThd")  # what a kill in mid-write leaves
    report = demo.build(out, PIECES, workers=1, quiet=True)
    assert report.pieces == PIECES
    assert files(out, "midi/*/*.mid") == files(built[0], "midi/*/*.mid")
    assert not list(out.rglob("*.tmp"))


def test_a_second_build_reuses_whole_pieces_and_mends_broken_ones(tmp_path: Path) -> None:
    first = demo.build(tmp_path, 2, workers=1, quiet=True)
    assert first.reused == 0
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/*.*")}
    assert demo.build(tmp_path, 2, workers=1, quiet=True).reused == 2
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*/*.*")} == before
    broken = next(iter(tmp_path.glob("audio/*/*.wav")))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    assert demo.build(tmp_path, 2, workers=1, quiet=True).reused == 1
    assert broken.read_bytes() == whole


def test_pieces_no_longer_chosen_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    demo.build(tmp_path, 2, workers=1, quiet=True)
    own = tmp_path / "midi" / "happy" / "my_own.mid"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"mine")
    demo.build(tmp_path, 1, workers=1, quiet=True)
    assert len(rights(tmp_path)) == 1
    assert len(list(tmp_path.glob("audio/*/*.wav"))) == 1
    assert own.read_bytes() == b"mine"


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kwela\[demo\]'"):
        demo.build(tmp_path / "x", PIECES)
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_line_and_a_file_in_the_way_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)  # what puts a finished file in its place
    with pytest.raises(KwelaError, match=r"No space left on device.*run the same command again") as failed:
        demo.build(tmp_path / "full", 1, workers=1, quiet=True)
    assert failed.value.status == 1
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file: can't be made a folder"):
        demo.build(tmp_path / "file", 1, workers=1, quiet=True)


# -------------------------------------------------------------------- the list


def test_the_demo_draws_on_at_least_three_collections_in_proportion() -> None:
    chosen = Counter(p["collection"] for p in demo.choose(120, 0))
    listed = Counter(p["collection"] for p in demo.catalogue()["pieces"])
    assert len(chosen) >= 3 and sum(chosen.values()) == 120
    assert all(abs(chosen[c] / 120 - listed[c] / sum(listed.values())) < 0.02 for c in listed)
    fewer = {p["stem"] for p in demo.choose(24, 0)}
    assert fewer < {p["stem"] for p in demo.choose(120, 0)}


def test_more_pieces_than_the_list_holds_is_refused() -> None:
    with pytest.raises(UserError, match="--pieces 9999"):
        demo.choose(9999, 0)


def test_no_collection_with_restricted_encodings_is_listed() -> None:
    restricted = ("essenFolksong/", "palestrina/", "bach/", "monteverdi/", "trecento/", "oneills1850/")
    pieces = demo.catalogue()["pieces"]
    assert not [p["source"] for p in pieces if p["source"].startswith(restricted)]
    terms = json.dumps(demo.catalogue(), ensure_ascii=False).lower()
    assert "all rights reserved" not in terms and "non-commercial" not in terms


def test_rights_quoted_from_a_file_stand_in_that_file() -> None:
    catalogue = demo.catalogue()
    checked = 0
    for piece in catalogue["pieces"]:
        collection = catalogue["collections"][piece["collection"]]
        if collection["rights_source"].startswith("https") or "documentation" in collection["rights_source"]:
            continue
        path = CORPUS / piece["source"]
        text = path.read_text(encoding="utf-8") if path.suffix == ".abc" else notation.source_text(path)[0][0]
        plain = " ".join(re.sub(r"(?m)^%", "", text).split())
        assert piece.get("rights", collection["rights"]) in plain, piece["stem"]
        checked += 1
    assert checked >= 15


def test_every_piece_is_a_song_of_its_own_and_fifteen_are_held_out() -> None:
    stems = [p["stem"] for p in demo.choose(120, 0)]
    assert len({split.group(stem) for stem in stems}) == 120
    assert len(split.validation(stems, 42, 0.15)) >= 15


# -------------------------------------------------------------------- notation


def play(abc: str, seconds: float = 60.0) -> notation.Reading:
    return notation.read([abc], "abc", program=40, quarters_per_minute=120.0, seconds=seconds, cut=False)


def spans(
    reading: notation.Reading, quarter: int = notation.TICKS_PER_QUARTER
) -> list[tuple[float, float, int]]:
    notes = [n for t in reading.score.tracks for n in t.notes]
    return [(n.time / quarter, n.duration / quarter, n.pitch) for n in notes]


def test_ties_join_grace_notes_and_chord_symbols_stay_silent() -> None:
    assert spans(play('X:1\nM:4/4\nL:1/4\nK:C\n"Am"C D E F-|F2 {g}G2|]\n')) == [
        (0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 3, 65), (6, 2, 67)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bars", "heard"),
    [
        ("|:C D|E F:|G A|B B|", "CDEF CDEF GABB"),
        ("C D|E F:|G A|B B:|", "CDEF CDEF GABB GABB"),  # a section that is closed but never opened
        ("C D|E F|[1 G G:|[2 A A|B B|A B:|", "CDEFGG CDEFAA BBAB BBAB"),  # first and second endings
        ("C D|E F|G A|B B|", "CDEFGABB"),
    ],
)
def test_repeats_are_played_as_written(bars: str, heard: str) -> None:
    reading = play(f"X:1\nM:2/4\nL:1/4\nK:C\n{bars}\n")
    letters = {60: "C", 62: "D", 64: "E", 65: "F", 67: "G", 69: "A", 71: "B"}
    assert "".join(letters[pitch] for *_, pitch in spans(reading)) == heard.replace(" ", "")
    assert reading.repeats == ("played" if ":" in bars else "none")


def test_an_upbeat_is_led_in_so_that_bars_fall_on_the_meter() -> None:
    reading = play("X:1\nM:3/4\nL:1/4\nK:C\nG|c d e|f2 G|]\n")
    assert spans(reading)[:2] == [(2, 1, 67), (3, 1, 72)]
    assert [(m.time, m.numerator, m.denominator) for m in reading.score.time_signatures] == [(0, 3, 4)]


def test_music_is_taken_to_the_last_whole_bar_within_the_limit() -> None:
    reading = play("X:1\nM:4/4\nL:1/4\nK:C\n" + "CDEF|" * 20 + "\n", seconds=5)  # a bar lasts two seconds
    assert reading.excerpt and reading.score.end() == 8 * notation.TICKS_PER_QUARTER
    assert not play("X:1\nM:4/4\nL:1/4\nK:C\nCDEF|CDEF|]\n", seconds=5).excerpt


def test_loudness_is_the_place_in_the_bar_and_nothing_random() -> None:
    bar = play("X:1\nM:4/4\nL:1/8\nK:C\nCDEFGABc|]\n").score.tracks[0].notes
    down, half, beat, off = bar[0], bar[4], bar[2], bar[1]
    assert down.velocity > half.velocity > beat.velocity > off.velocity
    jig = play("X:1\nM:6/8\nL:1/8\nK:C\nCDEFGA|]\n").score.tracks[0].notes
    assert jig[0].velocity > jig[3].velocity > jig[2].velocity == jig[1].velocity
    assert notation._accent(Fraction(9, 2), {Fraction(0): (9, 8)}) == 8  # the next bar's line


def test_the_encoded_tempo_wins_over_the_default() -> None:
    encoded = play("X:1\nM:4/4\nL:1/4\nQ:1/4=90\nK:C\nCDEF|]\n")
    assert encoded.tempo == "encoded" and encoded.score.tempos[0].qpm == pytest.approx(90, abs=0.01)
    default = play("X:1\nM:4/4\nL:1/4\nK:C\nCDEF|]\n")
    assert default.tempo == "default" and default.score.tempos[0].qpm == pytest.approx(120)


@pytest.mark.parametrize(
    ("steps", "tonic", "mode"), [("CDEFGABcGEC", 0, "major"), ("ABcde^fgaecA", 9, "minor")]
)
def test_the_key_is_the_one_the_scale_spells(steps: str, tonic: int, mode: str) -> None:
    found = notation.key_of(play(f"X:1\nM:4/4\nL:1/4\nK:C\n{steps}|]\n").score)
    assert found[:2] == (tonic, mode)


def test_pace_and_mode_choose_the_word() -> None:
    assert demo.emotion_of("major", 2.9) == "peaceful"
    assert demo.emotion_of("major", 9.0) == "energetic"
    assert demo.emotion_of("minor", 2.9) == "sad"
    assert demo.emotion_of("minor", 9.0) == "angry"


def test_one_pitch_never_overlaps_itself_in_a_track(built: tuple[Path, demo.Report]) -> None:
    def overlaps(score: ScoreTick) -> int:
        count = 0
        for track in score.tracks:
            until: dict[int, int] = {}
            for note in sorted(track.notes, key=lambda n: n.time):
                count += note.time < until.get(note.pitch, 0)
                until[note.pitch] = note.end
        return count

    scores = [midi.read(f) for f in built[0].glob("midi/*/*.mid")]
    assert sum(overlaps(score) for score in scores) == 0
    track = TrackTick("", 0, False)
    track.notes.append(NoteTick(0, 480, 60, 90))
    track.notes.append(NoteTick(240, 480, 60, 90))
    crossed = ScoreTick(480)
    crossed.tracks.append(track)
    assert overlaps(crossed) == 1  # negative control


def test_a_piece_that_fails_is_reported_and_the_others_are_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = demo.choose

    def with_a_missing_one(pieces: int, seed: int) -> list[dict[str, object]]:
        return [*real(1, 0), {**real(1, 0)[0], "stem": "nowhere", "source": "mozart/nowhere.mxl"}]

    monkeypatch.setattr(demo, "choose", with_a_missing_one)
    report = demo.build(tmp_path, 2, workers=1, quiet=True)
    assert report.pieces == 1 and "mozart/nowhere.mxl" in report.failed["nowhere"]
    assert "left out: nowhere" in report.summary()
