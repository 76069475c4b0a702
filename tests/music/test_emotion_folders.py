"""Folders as people name them are read in six languages, and what isn't an emotion's name is not misread."""

from __future__ import annotations

import unicodedata
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwela.music import emotion, emotion_vocabulary


def node(folder: str) -> str | None:
    """The last part of the node that a folder's name gives, None where it gives none."""
    reading = emotion.from_path(PurePath("root", folder, "x.wav"), "root")
    return None if reading.source == "default" else reading.node.rpartition("/")[2]


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("Happy Songs", "happy"),
        ("class_sad", "sad"),
        ("03_angry", "angry"),
        ("sad_music", "sad"),
        ("Angry (loud)", "angry"),
        ("calm v2", "calm"),
        ("HappySongs", "happy"),
        ("Happys", "happy"),
        ("fears", "fear"),
        ("Songs of Joy", "joy"),
        ("emotion-fear-01", "fear"),
        ("Sad Songs [2021]", "sad"),
        ("very sad songs", "sad"),
        ("over the moon songs", "happy"),
        ("Relaxing Music", "calm"),
        ("Copy of happy", "happy"),
        ("happy - Copy (2)", "happy"),
        ("Q1", "happy"),
        ("q3", "sad"),
    ],
)
def test_what_people_write_beside_an_emotion_does_not_hide_it(folder, word):
    assert node(folder) == word


@pytest.mark.parametrize(
    "folder",
    [
        "not_happy", "no_sad", "un-happy", "happy (not)", "nicht traurig", "sin miedo", "kein Ekel",  # negated
        "happy_sad", "Sadie", "Sad Boys", "joy division", "sadly_ever_after",  # not this, or not this alone
        "contents", "Allegro", "amore", "Ira", "wild", "Pace", "bose", "disagio", "La Paz", "Quiet", "class 3",
    ],
)  # fmt: skip
def test_what_is_no_emotions_name_is_not_read(folder):
    assert node(folder) is None


# For each of the runbook's words: German, Spanish, French, Portuguese, Italian, isiZulu.
LANGUAGES = {
    "happy": "glücklich feliz heureux feliz felice jabula",
    "joy": "Freude alegría joie alegria gioia injabulo",
    "calm": "ruhig calma calme calmo tranquillo zolile",
    "peaceful": "friedlich paz paisible pacífico pacifico ukuthula",
    "excited": "aufgeregt emocionado excité empolgado eccitato umdlandla",
    "content": "zufrieden contento satisfait satisfeito soddisfatto ukwaneliseka",
    "tender": "zärtlich ternura tendresse ternura tenerezza mnene",
    "energetic": "energiegeladen enérgico énergique enérgico energico umfutho",
    "sad": "traurig triste tristesse tristeza tristi dabukile",
    "melancholy": "Melancholie melancolía mélancolie melancolia malinconia ukudangala",
    "grief": "Trauer luto deuil luto lutto usizi",
    "despair": "Verzweiflung desesperación désespoir desespero disperazione",
    "angry": "wütend enojado colère raiva arrabbiato intukuthelo",
    "rage": "Wut rabia rage ulaka",
    "fury": "Furie furia fureur fúria furioso ukufutheka",
    "fear": "Angst miedo peur medo paura ukwesaba",
    "anxiety": "ängstlich ansiedad angoisse ansiedade ansia uvalo",
    "terror": "Entsetzen pavor terreur apavorado terrore ingebhe",
    "panic": "Panik pánico panique pânico panico ukutatazela",
    "surprise": "Überraschung sorpresa surpris surpresa sorpreso ukumangala",
    "disgust": "Ekel asco dégoût nojo disgusto ukunengwa",
    "neutral": "neutral neutro neutre neutra neutrale",
}
ALL = [(word, name) for word, names in LANGUAGES.items() for name in names.split()]


@pytest.mark.parametrize(("word", "name"), ALL)
def test_the_runbooks_words_are_read_in_six_languages(word, name):
    assert node(name) == word


@given(
    st.sampled_from(ALL),
    st.sampled_from(
        ["{}", "{} Musik", "música {}", "01_{}", "class-{}", "{} (2)", "umculo {}", "chansons {}"]
    ),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_accents_case_and_what_stands_beside_change_nothing(pair, form, unicode_form, case):
    word, name = pair
    folder = unicodedata.normalize(unicode_form, case(form.format(name)))
    assert node(folder) == word
    bare = "".join(one for one in unicodedata.normalize("NFD", folder) if not unicodedata.combining(one))
    assert node(bare) == word


def test_a_word_of_two_meanings_is_left_out_and_english_goes_first():
    english, foreign = emotion_vocabulary.thesaurus(), emotion_vocabulary.translations()
    assert english.keys().isdisjoint(foreign) and len(foreign) > 250
    assert node("chagrin") == "shame", "English, not the French sorrow"


def test_emopias_clips_are_read_by_their_quadrant_and_other_names_with_a_q_are_not():
    assert emotion.from_path("Q2_0vLPYiPN7qY_1.mid")[1:] == ("filename:Q2_0vLPYiPN7qY_1", "angry")
    assert emotion.from_path("Q2_report.mid").source == "default"


def test_a_file_is_read_in_other_languages_only_where_its_name_is_the_emotion():
    assert emotion.from_path("traurig_01.wav").source == "filename:traurig"
    assert emotion.from_path("Furioso Finale in D.wav").source == "default"


def test_a_user_may_write_the_word_of_another_language():
    assert emotion.lookup("traurig").emotion == emotion.lookup("sad").emotion


@given(st.text(max_size=30))
def test_any_text_is_read_or_not_read_without_an_error(text):
    assert emotion.is_folder(text) in (True, False)
