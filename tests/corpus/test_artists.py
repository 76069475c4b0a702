"""An artist is read from a file's name only where the name tells one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwela.corpus.tagged.artists import artist_of


@pytest.mark.parametrize(
    ("name", "artist"),
    [
        ("Ann - One.wav", "Ann"),
        ("deep/house/Ann - One.mp3", "Ann"),
        ("01 - Ann - One.wav", "Ann"),
        ("01-ann-one.wav", "ann"),
        ("1-01 Ann - One.wav", "Ann"),
        ("07. Ann - One.flac", "Ann"),
        ("Ann - Album - 01 One.flac", "Ann"),  # Bandcamp
        ("Ann_-_One.mp3", "Ann"),
        ("Ann feat. Bob - One.wav", "Ann"),
        ("Ann_live - One.wav", "Ann"),
        ("Jay-Z - 99 Problems.mp3", "Jay-Z"),
        ("a-ha - Take On Me.m4a", "a-ha"),
        ("Mary J. Blige - Song.wav", "Mary J. Blige"),
        ("artist 1-song 02.wav", "artist 1"),
        ("ann-01.wav", "ann"),
        ("A0 - s.wav", "A0"),
        ("Take That - Back.wav", "Take That"),
        ("東京事変 - 群青日和.wav", "東京事変"),
        ("f/american_bach_soloists-j_s__bach-01-x-0-29.mp3", "american_bach_soloists"),
    ],
)
def test_the_artist_stands_before_the_dash(name, artist):
    assert artist_of(name) == artist


@pytest.mark.parametrize(
    "name",
    [
        "loop-000.wav", "kick-01.wav", "drum-loop-03.wav", "Beat-01.wav", "120 bpm - loop 3.wav", "C minor - pad.wav",
        "01 - Title.wav", "Track 01 - Title.wav", "Disc 1 - 03 - Title.wav", "CD1-03 Title.flac", "12.wav",
        "2021-03-04 12.30.wav", "Recording-3.m4a", "voice-memo-3.m4a", "new-recording-2.wav",
        "MIDI-Unprocessed_SMF_02_R1_2004_01-05_ORIG_MID--AUDIO_02_R1_2004_05_Track05_wav.wav",
        "1_rock_100_beat_4-4.wav", "Q1_-abc_xyzabc_2.mp3", "Various Artists - Title.wav", "Unknown - Title.wav",
        "My Song_chunk0.wav", "Title.wav", "blues.00000.wav", "Song v3 FINAL master.wav",
    ],
)  # fmt: skip
def test_numbers_loops_and_recordings_are_no_artists(name):
    assert artist_of(name) == ""


@given(st.text(max_size=40))
def test_any_name_gives_an_artist_or_none(name):
    assert isinstance(artist_of(name.replace("/", "") + ".wav"), str)
