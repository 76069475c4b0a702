"""All versions and pieces of a song are one song, however people name files, and other songs are not."""

from __future__ import annotations

import time
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwela.corpus.pairs import group_by, songs, split
from kwela.errors import UserError


def groups(*stems: str) -> list[list[str]]:
    """The stems of each song, in order."""
    of: dict[str, list[str]] = {}
    for stem, song in zip(stems, songs.assign(stems), strict=True):
        of.setdefault(song, []).append(stem)
    return sorted(of.values())


@pytest.mark.parametrize(
    "stems",
    [
        ["Song (Live)", "Song", "Song - Remastered 2009", "Song (2011 Remaster)", "Song [Official Video]"],
        ["Song - Live at Wembley 1986", "Song (Live at the Apollo)", "Song - Radio Edit", "Song"],
        ["Song (feat. Bob)", "Song feat. Bob", "Song (Bob's Club Mix)", "Song (Acoustic Version)"],
        [
            "Song v3 FINAL master",
            "Song v2",
            "Song_master",
            "Song rough mix",
            "Song 24bit 48khz",
            "Copy of Song",
        ],
        ["My Song_chunk0", "My Song_chunk11", "my-song-seg-3", "My Song (part 2)", "My Song pt. II"],
        ["Song_0001_of_0010", "Song 2 of 10", "Song_0-30s", "Song_30-60s", "Song [30-40]", "Song clip 3"],
        ["Q1_0vLPYiPN7qY_2", "Q3_0vLPYiPN7qY_0", "Q1_0vLPYiPN7qY_11"],  # EMOPIA
        ["f/american_bach-j_s-01-song-0-29", "f/american_bach-j_s-01-song-30-59"],  # MagnaTagATune
        ["Song 1/mix", "Song 1/stems/vocals", "Song 1/stems/S00"],
        ["Song A/part1/seg_1", "Song A/part1/seg_2", "Song A/part2/seg_1"],
        ["Artist/Title", "Artist/Title.1", "Artist/Title.2"],  # Lakh
        ["x/Song_vocals", "x/Song_drums", "x/Song_bass", "x/Song"],
        ["vocals/Song 1", "drums/Song 1"],
        ["x/Song", "x/Song_vocals"],
        ["x/Song.L", "x/Song.R"],
        ["ZOOM0001_LR", "ZOOM0001_Tr1", "ZOOM0001_Tr12"],
        ["MAPS_MUS-bach_846_ENSTDkCl", "MAPS_MUS-bach_846_AkPnBcht"],
        ["Song - Kopie", "Song - Copie (2)", "Song - Cópia", "Song のコピー", "Song"],
        ["Song_Mixdown_03", "Song v.2", "Song 2nd take", "Song_basic_pitch", "Song_bars_9_16", "Song"],
        ["Song_seg1of3", "Song_start1500", "Song_offset 2.5s", "Song 1m30s", "Song_seg_03_of_03"],
        ["Song_up2", "Song_down3", "Song_speed1.1", "Song_x0.9", "Song_ps-2", "Song"],
        ["夜の歌 (ライブ)", "夜の歌（カラオケ）", "夜の歌"],
        ["wav/01", "flac/01", "train/01"],
        ["A/01 Yesterday", "Best of/07 Yesterday (Live)", "B/Yesterday - Remastered"],
        ["001/001", "001/versions/001-v1"],  # POP909
        ["happy/song0", "sad/song0_v2"],
        ["My Song", "my_song", "MY-SONG"],
        [
            "Song (Mono)",
            "Song (8D Audio)",
            "Song (en vivo)",
            "Song Teil 2",
            "Song_inst",
            "Song [dQw4w9WgXcQ]",
        ],
        [
            "song_intro",
            "song_chorus",
            "song_verse2",
            "song_bars_1-4",
            "song_000_chunk",
            "songchunk5",
            "song_30s",
        ],
        ["song_pitch+2", "song_+2st", "song_noise", "song_320kbps", "Song.mp3", "song"],
        ["Ann - Album - 01 Yesterday", "Ann - Album (Remastered) - 01 Yesterday"],  # Bandcamp
        ["happy/Song A/chunks/0001", "happy/Song A/chunks/0002"],
    ],
)
def test_these_are_one_song_and_stay_one_beside_another(stems):
    assert groups(*stems) == [sorted(stems, key=stems.index)]
    assert len(groups(*stems, "zz/Another Tune", "zz/Third Tune")) == 3, "the control"


@pytest.mark.parametrize(
    "stems",
    [
        ["happy/Song 0/mix", "happy/Song 1/mix", "sad/Song 2/mix"],
        ["Song 0/anything", "Song 1/anything", "Song 2/anything"],
        ["Track00001/mix", "Track00002/mix"],  # Slakh
        ["Album A/01", "Album A/02", "Album B/01", "Album B/02"],
        ["Album A/CD1/01", "Album A/CD2/01", "Album B/CD1/01"],
        ["happy/track001", "sad/track001", "sad/track002"],
        ["Album/Track 01", "Album/Track 02", "Second/Track 01"],
        ["happy/01", "happy/02", "sad/01"],
        ["A/01 Intro song", "A/02 Outro song"],
        ["Loops/drums 1", "Loops/drums 2", "Loops/bass 1"][:2],
        ["blues.00000", "blues.00001"],  # GTZAN
        ["New Recording 3", "New Recording 4", "Voice 001", "Voice 002"],
        ["000/000002", "000/000005", "001/001000"],  # FMA
        ["Puppet Master", "Puppet", "Alive", "Live", "up tempo", "Where we live in peace"],
        ["track_001", "track_002", "v2", "v3"],
        ["Q1_0vLPYiPN7qY_2", "Q1_1vLPYiPN7qY_2"],
        ["x/Blues_piano", "x/Rock_guitar"],
        ["London Bridge", "Puppet Master", "The 80s", "Video clip", "White noise", "Waltz (Anniversary)"],
        ["Step Up 2", "Step Up 3", "Kick Start", "Midi", "Disc Tr1", "Disc Tr2", "Vitamin C", "Vitamin R"],
        ["x/Blue", "x/Blue Guitar", "y/Blue_piano"],
        ["Symphony No. 5 - I. Allegro", "Symphony No. 5 - II. Andante", "Op. 10 No. 1", "Op. 10 No. 2"],
        ["Ann - Album - 01 Yesterday", "Ann - Album - 02 Tomorrow"],
    ],
)
def test_these_are_as_many_songs_as_files(stems):
    assert len(groups(*stems)) == len(stems)


@pytest.mark.parametrize(
    ("stems", "names"),
    [
        (["happy/song_00", "sad/song_01"], ["song_00", "song_01"]),
        (["happy/track001"], ["track001"]),
        (["000/000002", "001/000005"], ["000002", "000005"]),
        (["happy/01", "sad/02"], ["01", "02"]),
        (["a/Song (Live)_v2", "b/ballad"], ["Song", "ballad"]),
        (["A/01 Intro", "A/02 Outro"], ["01 Intro", "02 Outro"]),
        (["x/Blues_piano", "happy/mix"], ["Blues_piano", "mix"]),
        (["2004/MIDI-Unprocessed_SMF_02_Track05_wav"], ["MIDI-Unprocessed_SMF_02_Track05_wav"]),
    ],
)
def test_names_that_were_right_before_are_the_same_strings(stems, names):
    """The split hashes them: a manifest that is made again keeps its sides."""
    assert songs.assign(stems) == names


WORDS = ["Blue", "river", "Nkosi", "Überfall", "夜曲", "Ode", "Sun", "Rain", "zulu", "Waltz"]
TITLES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True).map(" ".join)
MARKS = [
    " (Live)",
    "_chunk7",
    " - Remastered 2009",
    "_part2",
    " [Official Audio]",
    " v3 FINAL master",
    "_seg_12",
]


@given(st.lists(TITLES, min_size=1, max_size=6, unique_by=str.casefold), st.data())
def test_any_marks_of_versions_and_pieces_leave_as_many_songs_as_titles(titles, data):
    folder = st.sampled_from(["", "happy/", "Album/", "wav/"])
    files = [
        f"{data.draw(folder)}{title}{''.join(data.draw(st.lists(st.sampled_from(MARKS), max_size=3)))}"
        for title in titles
        for _ in range(2)
    ]
    found = songs.assign(files)
    assert len(set(found)) == len(titles)
    assert all(found[2 * k] == found[2 * k + 1] for k in range(len(titles)))


@given(
    st.lists(TITLES, min_size=2, max_size=6, unique_by=str.casefold),
    st.sampled_from(["mix", "audio", "chunk_{}", "seg{}"]),
)
def test_a_folder_of_parts_is_one_song_whatever_its_parts(titles, part):
    files = [f"sad/{title}/{part.format(k)}" for title in titles for k in range(2)]
    assert [sorted(set(one)) for one in groups(*files)] == sorted(
        sorted({f"sad/{title}/{part.format(k)}" for k in range(2)}) for title in titles
    )


def test_all_numbers_of_folders_that_share_one_have_their_folder():
    assert songs.assign(["A/01", "A/11", "B/01", "C/12"]) == ["A/01", "A/11", "B/01", "12"]


def test_files_elsewhere_do_not_change_the_song_of_a_folder_of_parts():
    alone = songs.assign(["happy/Song 0/mix", "happy/x"])
    assert songs.assign(["happy/Song 0/mix", "happy/x", "sad/Song 9/mix", "sad/y"])[:2] == alone


def test_a_single_file_is_named_by_its_folder_where_it_is_a_part():
    assert songs.name(PurePosixPath("/data/midi/Song 3/mix.mid")) == "Song 3"
    assert songs.name(PurePosixPath("/data/happy/mix.mid")) == "mix"
    assert songs.name(PurePosixPath("/data/happy/Song_v2.mid.gz")) == "Song"


def test_joined_files_get_the_first_of_their_names():
    assert songs.join(["b", "a", "c", "d"], [[0, 1], [1, 3]]) == ["a", "a", "c", "a"]
    assert songs.join(["b", "a"], []) == ["b", "a"], "the control"


def test_twenty_thousand_names_take_a_moment():
    names = [f"folder {k % 97}/{k:06} Title {k}_v2" for k in range(20_000)]
    began = time.perf_counter()
    assert len(set(songs.assign(names))) == len(names)
    assert time.perf_counter() - began < 20  # a loose bound: it takes about one


# ------------------------------------------------------------------ --group-by


def by(rule: str, *stems: str) -> list[str]:
    return group_by.parse_rule(rule)([[stem] for stem in stems])


def test_the_users_rule_takes_the_place_of_the_names():
    assert by("stem", "a/x_v2", "b/x_v2") == ["x_v2", "x_v2"]
    assert by("folder", "a/x", "a/y", "b/x") == ["a", "a", "b"]
    assert by(r"^(\d+)_", "12_x", "12_y", "13_x") == ["12", "12", "13"]
    assert by(r"take\d", "x take1", "y take1") == ["take1", "take1"]  # without a group: the whole match


def test_a_table_gives_songs_by_path_or_name_in_any_unicode_form(tmp_path):
    table = tmp_path / "songs.csv"
    table.write_text("file,song\na/x.wav,one\ncafé,two\ndeep\\z.mid,one\n", encoding="utf-8")
    assert by(str(table), "a/x", "cafe\u0301".replace("e\u0301", "é"), "deep/z") == ["one", "two", "one"]
    assert group_by.parse_rule(str(table))([["other/q", "deep/z"]]) == ["one"], "by the MIDI's path"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("file,label\nx,1\n", "needs the columns file and song"),
        ("file,song\nx,\n", "row 2: expected a file and its song"),
        ("file,song\nx,1\nx,2\n", "row 3: x stands twice"),
        ("file,song\nx,1\n", "has no song for 1 of 2 files, such as y"),
        ("", "needs the columns"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, complaint):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=f"s.csv.*{complaint}"):
        by(str(tmp_path / "s.csv"), "x", "y")


@pytest.mark.parametrize(
    ("rule", "complaint"), [("(", "no regular expression"), ("q", "doesn't match 2 of 2")]
)
def test_a_pattern_that_is_none_or_matches_nothing_is_refused(rule, complaint):
    with pytest.raises(UserError, match=f"--group-by.*{complaint}"):
        by(rule, "x", "y")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv: songs not readable"):
        by(str(tmp_path / "gone.csv"), "x")


@given(st.text(max_size=40), st.integers(0, 99))
def test_no_name_breaks_the_rule(text, seed):
    stem = text.replace("/", "") or "x"
    assert songs.assign([stem, "Other"])[0] and 0 <= split.position(split.group(stem), seed) < 1


@pytest.mark.parametrize(
    "token", ["(", "[", "_", " - ", "(live) ", "feat. ", "v1", "12-", "mix ", "a of 3", "copy of "]
)
def test_a_long_hostile_name_costs_no_more_than_a_moment(token):
    name = (token * 250)[:250]
    began = time.perf_counter()
    songs.assign([name, f"x/{name}"])
    assert time.perf_counter() - began < 2  # a loose bound: it takes some hundredths
