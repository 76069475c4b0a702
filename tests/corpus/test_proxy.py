"""The proxy score counts groups, not synonyms; choosing and splitting are by artist and by hash."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_mtt import GROUPS, NEGATIVES, TAGS, annotate, name_of, tags_of

from kwela.corpus.tagged import magnatagatune, proxy_score
from kwela.corpus.tagged.proxy_score import Clip
from kwela.errors import UserError


def clip(*tags: str, artist: str = "a", clip_id: str = "1") -> Clip:
    return Clip(clip_id, f"0/{artist}-x.mp3", tags, artist)


def test_synonyms_count_once_and_unlisted_tags_not_at_all():
    clips = [clip("drum", "drums", "percussion"), clip("drum", "piano", "guitar"), clip("no drums"), clip()]
    assert proxy_score.score(clips, GROUPS, NEGATIVES).score.tolist() == [1, 2, 0, 0]


def test_ties_are_ranked_by_weight_then_by_what_speaks_against():
    clips = [
        clip("drum", "piano", "no beat"),
        clip("drum", "piano"),
        clip("drum", "drums", "piano"),
        clip("drum"),
    ]
    scores = proxy_score.score(clips, GROUPS, NEGATIVES)
    assert proxy_score.choose(clips, scores, 1, 9, 9) == [2, 1, 0, 3]
    heavy = proxy_score.score([clip("beat", "jazz"), clip("drum", "piano")], GROUPS, (), {"piano": 3.0})
    assert proxy_score.choose(clips[:2], heavy, 1, 1, 9) == [1]


def test_no_artist_gives_more_than_the_cap_and_no_clip_falls_below_the_bar():
    clips = [clip("drum", "piano", "jazz", artist=f"a{k % 3}", clip_id=str(k)) for k in range(30)] + [
        clip("drum")
    ]
    scores = proxy_score.score(clips, GROUPS)
    chosen = proxy_score.choose(clips, scores, 3, 100, 4)
    assert Counter(clips[k].artist for k in chosen) == {"a0": 4, "a1": 4, "a2": 4}
    assert len(proxy_score.choose(clips, scores, 3, 5, 100)) == 5
    with pytest.raises(UserError, match="no clip has 4 of the tag groups; the most is 3"):
        proxy_score.choose(clips, scores, 4, 5, 100)


@given(
    st.lists(st.sampled_from([f"artist {k}" for k in range(40)]), min_size=1, max_size=200), st.integers(0, 5)
)
def test_no_artist_stands_on_two_sides(artists, seed):
    sides = proxy_score.sides(artists, seed)
    assert len(set(zip(artists, sides, strict=True))) == len(set(artists))
    if len(set(artists)) >= 3:
        assert set(sides) == {"train", "val", "test"}


def test_an_artist_keeps_its_side_when_others_come():
    few, many = ([f"artist {k}" for k in range(n)] for n in (60, 90))
    assert proxy_score.sides(few, 7) == proxy_score.sides(many, 7)[:60]


def test_annotations_read_with_their_tags_and_artists(tmp_path):
    annotate(tmp_path, [("2", name_of(0), ["drum", "no piano"]), ("6", name_of(1), [])])
    found = magnatagatune.read(tmp_path, ["drum"])
    assert found.tags == list(TAGS)
    assert found.clips[0] == Clip("2", name_of(0), ("drum", "no piano"), "artist_0")
    (tmp_path / "clip_info_final.csv").write_text('"clip_id"\t"artist"\n"6"\t"American Bach Soloists"\n')
    assert magnatagatune.read(tmp_path, ["drum"]).clips[1].artist == "American Bach Soloists"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("clip_id,drum,mp3_path\n", "no clips"),
        ("clip_id|drum|mp3_path\n", "no column clip_id"),
        ("clip_id\tdrum\n", "no column mp3_path"),
        ("clip_id\tflute\tmp3_path\n1\t0\ta.mp3\n", "none of the configured tags is a column"),
        ("clip_id\tdrum\tmp3_path\n", "no clips"),
        ("clip_id\tdrum\tmp3_path\n1\t0\n", "row 2: 2 columns, the first row has 3"),
        ("clip_id\tdrum\tmp3_path\n1\t0\ta.mp3\n1\t0\tb.mp3\n", "row 3: clip_id 1 stands twice"),
        ("clip_id\tdrum\tmp3_path\n../x\t0\ta.mp3\n", r"row 2: clip_id '\.\./x': letters"),
    ],
)
def test_a_bad_table_is_named_by_column_or_row(tmp_path, text, complaint):
    (tmp_path / "annotations_final.csv").write_text(text)
    with pytest.raises(UserError, match=rf"annotations_final\.csv:?.*{complaint}"):
        magnatagatune.read(tmp_path, ["drum"])


def test_clips_that_the_annotations_do_not_know_are_an_error(tmp_path):
    annotate(tmp_path, [("2", name_of(0), ["drum"])])
    (tmp_path / "clip_info_final.csv").write_text("clip_id\tartist\n99\tSomeone\n")
    with pytest.raises(UserError, match=r"clip_info_final\.csv: none of its clips"):
        magnatagatune.read(tmp_path, ["drum"])


def test_what_is_missing_is_said_in_one_message_with_addresses(tmp_path):
    said = magnatagatune.missing(tmp_path, sound=False)
    assert said and "\n" not in said
    assert all(
        f"{name} (https://" in said for name in ("mp3.zip.001", "mp3.zip.003", "annotations_final.csv")
    )
    annotate(tmp_path, [("2", name_of(0), ["drum"])])
    assert magnatagatune.missing(tmp_path, sound=True) is None


def test_a_whole_collections_rows_are_scored_in_well_under_two_seconds(tmp_path):
    rows = [(str(k + 2), name_of(k, 230), tags_of(k)) for k in range(25_863)]
    annotate(tmp_path, rows, [*TAGS, *(f"tag {k}" for k in range(188 - len(TAGS)))])
    began = time.perf_counter()
    clips, tags = magnatagatune.read(tmp_path, TAGS)
    chosen = proxy_score.choose(clips, proxy_score.score(clips, GROUPS, NEGATIVES), 3, 8000, 150)
    proxy_score.sides([clips[k].artist for k in chosen], 42)
    assert len(clips) == 25_863 and len(tags) == 188 and len(chosen) > 1000
    assert time.perf_counter() - began < 10  # a loose bound: it takes about half a second
