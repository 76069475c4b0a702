"""A song stands on one side of the split, and nothing but its name and the seed decides which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwela.corpus.pairs import split

NAMES = st.text("abcXYZ019 _-().é", max_size=12).map(lambda text: f"s{text}")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("stem", "song"),
    [
        ("track001", "track001"),
        ("track_001", "track_001"),  # a bare number is a title, not a version
        ("song_v2", "song"),
        ("Song (Live)_v2", "Song"),
        ("song-take3", "song"),
        ("song copy 2", "song"),
        ("song (1)", "song"),
        ("song [remastered]", "song"),
        ("song - radio edit", "song"),
        ("bach_transposed", "bach"),
        ("bach_transposed+2", "bach"),
        ("bach_tempo0.9", "bach"),
        ("Alive", "Alive"),
        ("up tempo", "up tempo"),
        ("live", "live"),
        ("v2", "v2"),
        ("bwv1.6", "bwv1.6"),
    ],
)
def test_a_version_belongs_to_its_song(stem, song):
    assert split.group(stem) == song


@given(NAMES, SEEDS, st.sampled_from(["_v2", " (live)", "-take 7", " copy", " [remix]_v3", "_key-2"]))
def test_versions_stand_where_their_song_stands(stem, seed, suffix):
    song = split.group(stem)
    assert split.position(split.group(song + suffix), seed) == split.position(song, seed)
    assert split.position(song.upper().replace("_", " "), seed) == split.position(song.upper(), seed)


@given(st.sets(NAMES, min_size=2, max_size=30), st.sets(NAMES, max_size=30), SEEDS, st.floats(0.05, 0.9))
def test_the_side_of_a_song_does_not_depend_on_the_other_files(songs, others, seed, share):
    alone, among = split.validation(songs, seed, share), split.validation(songs | others, seed, share)
    by_hash = {name for name in songs if split.position(name, seed) < share}
    if by_hash not in (set(), songs):  # a side that the hash leaves empty is filled
        assert alone == by_hash == among & songs


@given(st.sets(NAMES, min_size=1, max_size=20), SEEDS, st.floats(0, 0.999))
def test_neither_side_is_empty_where_two_songs_differ(songs, seed, share):
    held_out = split.validation(songs, seed, share)
    places = {split.position(name, seed) for name in songs}
    assert held_out and (len(places) == 1 or held_out != songs)


def test_an_empty_validation_side_gets_the_smallest_hash():
    songs = [f"song{i}" for i in range(10)]
    assert split.validation(songs, 7, 0.0) == {min(songs, key=lambda name: split.position(name, 7))}


def test_the_share_is_kept_on_average_and_the_seed_matters():
    songs = [f"song {i}" for i in range(4000)]
    assert abs(len(split.validation(songs, 1, 0.2)) / 4000 - 0.2) < 0.03
    assert split.validation(songs, 1, 0.2) != split.validation(songs, 2, 0.2)


def test_the_hash_is_the_same_on_every_machine():
    assert split.position("track001", 42) == 0.3922125112602899


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("My Song", "MY SONG"),
        ("My Song", "my_song"),
        ("Straße", "STRASSE"),
        ("a - b", "a.b"),
        (" (a)", "(A)_"),
    ],
)
def test_case_and_separators_do_not_move_a_song(name, other):
    assert split.position(name, 7) == split.position(other, 7)
    assert split.position(name, 7) != split.position(f"{name}s", 7), "the control"


def test_what_lies_below_the_share_is_held_out_and_a_place_equal_to_it_is_not():
    songs = sorted((f"song {k}" for k in range(9)), key=lambda name: split.position(name, 3))
    share = split.position(songs[4], 3)
    assert split.validation(songs, 3, share) == set(songs[:4])


def test_of_songs_that_all_lie_below_the_share_the_largest_hash_trains():
    songs = sorted((f"song {k}" for k in range(9)), key=lambda name: split.position(name, 3))
    assert split.validation(songs, 3, 0.9999) == set(songs[:-1])
    assert split.validation(["song"], 3, 0.9999) == split.validation(["song"], 3, 0.0) == {"song"}
    assert split.validation(["a song", "A_SONG"], 3, 0.9999) == {"a song", "A_SONG"}, (
        "two spellings of one song"
    )
