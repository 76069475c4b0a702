"""Words and paths give the emotion a listener would name, and say where they found it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kwela.errors import UserError
from kwela.music import emotion

RUNBOOK = [
    "happy",
    "joy",
    "calm",
    "peaceful",
    "excited",
    "content",
    "tender",
    "energetic",
    "sad",
    "melancholy",
    "grief",
    "despair",
    "angry",
    "rage",
    "fury",
    "fear",
    "anxiety",
    "terror",
    "panic",
    "surprise",
    "disgust",
    "neutral",
]

TREE = json.loads((Path(emotion.__file__).with_name("thesaurus.json")).read_text())["nodes"]


def words_of(nodes: dict) -> list[str]:
    found = []
    for node in nodes.values():
        found += [word for tier in node["tiers"] for word in tier] + words_of(node.get("children", {}))
    return found


def node(word: str) -> tuple[float, float]:
    return emotion.lookup(word).emotion[:2]


def test_the_thesaurus_has_six_bases_of_six_sub_emotions_of_six_leaves_beside_neutral():
    bases = {name: base for name, base in TREE.items() if name != "neutral"}
    assert len(bases) == 6
    for base in bases.values():
        assert len(base["children"]) == 6
        assert all(len(sub["tiers"]) == 6 and all(sub["tiers"]) for sub in base["children"].values())


def test_at_least_650_words_are_distinct_and_lower_case():
    words = words_of(TREE)
    assert len(words) == len(set(words)) == len(emotion.thesaurus()) >= 650
    assert all(word == word.lower() for word in words)


@pytest.mark.parametrize("word", RUNBOOK)
def test_each_runbook_word_is_a_node_whose_bare_word_is_the_fourth_tier(word):
    reading = emotion.lookup(word)
    assert reading.node.endswith(word)
    assert reading.emotion[2] == (0.5 if word == "neutral" else 0.6)


@pytest.mark.parametrize("word", [word for word in RUNBOOK if word != "neutral"])
def test_the_tiers_of_a_node_rise_from_0_to_1_and_share_its_place(word):
    own = [entry for entry in emotion.thesaurus().values() if entry.node == emotion.lookup(word).node]
    assert {entry.tier for entry in own} == {1, 2, 3, 4, 5, 6}
    assert {(entry.valence, entry.arousal) for entry in own} == {node(word)}
    phrase = next(key for key, entry in emotion.thesaurus().items() if entry in own and entry.tier == 6)
    assert emotion.lookup(phrase).emotion[2] == 1.0


def test_neutral_and_its_words_are_always_the_resting_emotion():
    resting = [key for key, entry in emotion.thesaurus().items() if entry.node == "neutral"]
    assert len(resting) >= 6
    assert {emotion.lookup(word).emotion for word in [*resting, "very neutral"]} == {(0.0, 0.0, 0.5)}


def test_signs_are_those_of_russells_circumplex():
    quadrants = {
        (1, 1): "happy joy excited energetic amazement elated thrilled",
        (1, -1): "calm peaceful content tender serene grateful",
        (-1, 1): "angry rage fury fear anxiety terror panic disgust frustration shock",
        (-1, -1): "sad melancholy grief despair loneliness boredom inconsolable",
    }
    for signs, words in quadrants.items():
        for word in words.split():
            assert tuple(np.sign(node(word))) == signs, word
    assert node("rage")[1] > node("irritation")[1] > node("boredom")[1]
    assert node("terror")[0] < node("anxiety")[0] < node("joy")[0]
    assert all(-1 <= e.valence <= 1 and -1 <= e.arousal <= 1 for e in emotion.thesaurus().values())


@pytest.mark.parametrize(
    ("path", "source", "like"),
    [
        ("audio/sad/track003.wav", "directory:sad", "sad"),
        ("sad/happy/x.wav", "directory:happy", "happy"),  # the nearest parent wins
        ("happy/takes/x.wav", "directory:happy", "happy"),
        ("sad/grief_01.wav", "directory:sad", "sad"),  # a directory before the file name
        ("Audio/SAD/X.WAV", "directory:sad", "sad"),
        ("music/Heavy-Hearted/x.wav", "directory:heavy hearted", "heavy-hearted"),
        ("music/track_grief_001.wav", "filename:grief", "grief"),
        ("music/over_the_moon-2.mid", "filename:over the moon", "over the moon"),
        ("music/grief then joy.mid", "filename:grief", "grief"),
        ("music/unhappy song.wav", "filename:unhappy", "unhappy"),
        ("music/not_happy_but_calm.wav", "filename:calm", "calm"),
        ("music/Sadie.wav", "default", "neutral"),
        (
            "music/sadly_ever_after/x.wav",
            "default",
            "neutral",
        ),  # a directory *is* a word, it doesn't hold one
        ("music/crossfade_enjoyment.wav", "default", "neutral"),
        ("music/not very happy.wav", "default", "neutral"),
        ("x.wav", "default", "neutral"),
    ],
)
def test_a_path_is_read_by_its_nearest_emotion_directory_then_by_whole_words(path, source, like):
    assert emotion.from_path(path)[:2] == (emotion.lookup(like).emotion, source)


def test_unhappy_is_not_happy():
    assert emotion.from_path("unhappy.wav").emotion[0] < 0 < emotion.from_path("happy.wav").emotion[0]


def test_directories_above_the_given_root_say_nothing():
    assert emotion.from_path("/content/tracks/x.wav", "/content/tracks").source == "default"
    assert emotion.from_path("/content/tracks/x.wav").source == "directory:content"
    assert emotion.from_path("/content/sad/x.wav", "/content/sad").source == "directory:sad"
    assert emotion.from_path("/content/sad/x.wav", "/content").source == "directory:sad"


def test_numbers_stand_for_themselves():
    assert emotion.describe("", emotion.read_argument("0.1,-0.25,0.5")) == {
        "input": "", "valence": pytest.approx(0.1), "arousal": -0.25, "intensity": 0.5, "source": "user", "node": "",
    }  # fmt: skip


def test_a_degree_moves_a_word_between_its_tiers():
    assert [
        emotion.lookup(f"{degree} sad".strip()).emotion[2]
        for degree in ("barely", "slightly", "somewhat", "", "very", "extremely")
    ] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert emotion.lookup("very inconsolable").emotion[2] == 1.0
    assert emotion.from_path("take_very_sad_2.wav") == emotion.lookup("very sad")._replace(
        source="filename:very sad"
    )


def test_an_unknown_word_names_the_nearest():
    with pytest.raises(UserError, match=r"'hapy'.*did you mean.*happy"):
        emotion.lookup("hapy")
    for nothing in ("", "very", "42", "happy sad"):
        with pytest.raises(UserError):
            emotion.lookup(nothing)


def test_an_argument_without_slash_or_extension_is_a_word():
    assert emotion.read_argument("grief").source == "word:grief"
    assert emotion.read_argument("track_grief_001.wav").source == "filename:grief"
    assert emotion.read_argument("sad/x").source == "directory:sad"
    with pytest.raises(UserError):
        emotion.read_argument("track_grief_001")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([0.1, 0.2], "found 2"),
        ([0.0] * 63, "found 63"),
        ("sad", "found none"),
        (None, "found none"),
        ([0.1, float("nan"), 0.5], "number 2 is nan"),
        ([0.1, 0.2, -0.1], r"number 3 is -0.1, outside \[0, 1\]"),
        ([1.5, 0.2, 0.1], r"number 1 is 1.5, outside \[-1, 1\]"),
        ([True, 0.2, 0.1], "not a number"),
        (["0.1", 0.2, 0.1], "not a number"),
        ([0.0] * 63 + [2.0], "number 64"),
    ],
)
def test_a_bad_vector_is_refused_with_its_place(values, complaint):
    with pytest.raises(UserError, match=f"m.jsonl:row 3: emotion: .*{complaint}"):
        emotion.check(values, "m.jsonl:row 3: emotion")


def test_good_vectors_pass_and_three_numbers_are_padded():
    own = np.linspace(-1, 1, 64).tolist()
    assert emotion.to_64d(emotion.check(own, "")).tolist() == np.float32(own).tolist()
    padded = emotion.to_64d(emotion.check([-1, 1, 0], ""))
    assert padded.dtype == np.float32 and padded.tolist() == [-1, 1, 0] + [0] * 61


def test_the_named_dimensions_begin_the_padded_form_and_are_written_with_their_names():
    feeling = emotion.Emotion(valence=0.5, arousal=-0.25, intensity=0.75)
    assert emotion.DIMENSION_NAMES == ("valence", "arousal", "intensity")
    assert emotion.Emotion.from_vector(emotion.to_64d(feeling)) == feeling
    assert feeling.text(2) == "valence +0.50, arousal -0.25, intensity 0.75"
    assert emotion.PADDED_TEXT.startswith("valence -1..1, arousal -1..1, intensity 0..1, then zeros or 61")


@pytest.mark.parametrize("text", ["-0.8,0.5,0.5", "\u22120.8,0.5,0.5", " -.8, .5, 5e-1 "])
def test_numbers_that_begin_with_a_minus_are_numbers(text):
    read = emotion.read_argument(text)
    assert read.source == "user" and [round(value, 6) for value in read.emotion] == [-0.8, 0.5, 0.5]
    assert emotion.parse(text) == tuple(read.emotion)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.8;0.5;0.5", "write valence,arousal,intensity as 0,0,0.5"),
        ("-0,8 0,5 0,5", "write valence,arousal,intensity as"),
        ("nan,0,0", "number 1 is nan"),
        ("-2,0,0", "number 1 is -2.0, outside"),
        ("-0.8", "found 1"),
        ("0.8 0.5 0.5", "write valence,arousal,intensity as"),
    ],
)
def test_numbers_that_are_no_emotion_are_never_taken_for_a_path(text, said):
    for read in (emotion.read_argument, emotion.parse):
        with pytest.raises(UserError, match=said):
            read(text)


def test_a_path_with_numbers_stays_a_path():
    assert emotion.read_argument("-1,2/happy/03.wav").source == "directory:happy"
    assert emotion.read_argument("-5.wav").source == "default"
