"""From the training table to batches: what is refused, what a clip is called, where crops may start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from musicgen_set import TEMPLATES

from kwela.engine import order
from kwela.errors import UserError
from kwela.musicgen import code_cache, data
from kwela.musicgen.delay import IGNORED

HEAD = "clip_id,file_path,amapiano_proxy_score,tags,duration,split,artist\n"
ROWS = '1,a.mp3,3,"drums,piano",29.1,train,x\n2,b.mp3,4,beat,29.1,val,y\n'


def the_table(folder: Path, text: str) -> Path:
    path = folder / "training_metadata.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read_with_paths_beside_it(tmp_path):
    clips = data.read_table(the_table(tmp_path, HEAD + ROWS))
    assert clips[0] == data.TaggedClip("1", tmp_path / "a.mp3", ("drums", "piano"), "train", "x")
    assert [clip.split for clip in clips] == ["train", "val"]
    with_more = data.read_table(
        the_table(tmp_path, "\ufeff" + HEAD.strip() + ",own\n" + ROWS.replace(",x\n", ",x,9\n"))
    )
    assert with_more == clips  # a column of one's own, and a spreadsheet's mark at the beginning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column clip_id"),
        (HEAD.replace("file_path", "path") + ROWS, "no column file_path"),
        ((HEAD + ROWS).replace(",", "|"), "separated by commas"),
        (HEAD + "1,,3,drums,29.1,train,x\n" + ROWS, "row 2: file_path is empty"),
        (HEAD + ROWS + "3\n", "row 4: file_path is empty"),
        (HEAD + ROWS + "3,c.mp3,3,drums,29.1,trian,x\n", "row 4: split 'trian' is none of train, val, test"),
        (HEAD + ROWS.replace("val", "train"), "no row of split 'val'"),
        (HEAD + ROWS.replace("train", "test"), "no row of split 'train'"),
        (HEAD, "no clips in it"),
    ],
)
def test_a_table_that_wont_do_is_refused_in_one_line_that_names_it(tmp_path, text, said):
    path = the_table(tmp_path, text)
    with pytest.raises(UserError, match=said) as refused:
        data.read_table(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_tags_of_63000_letters_are_refused_by_row(tmp_path):
    rows = ["clip_id,file_path,tags,split", "1,a.wav,drums,train", f'2,b.wav,"{"w" * 63_000}",val']
    path = tmp_path / "training_metadata.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"row 3: the tags are too long: 63,000 characters") as refused:
        data.read_table(path)
    assert len(str(refused.value)) < 300


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "training_metadata.csv").write_bytes(b"\xff\xfe\x00clip")
    for path, said in (
        (tmp_path / "none.csv", "no such table"),
        (tmp_path, "not readable"),
        (None, "not readable"),
    ):
        with pytest.raises(UserError, match=said):
            data.read_table(path or tmp_path / "training_metadata.csv")


# --------------------------------------------------------------------- prompts


def test_prompts_are_templates_of_the_tags_that_are_heard():
    made = data.make_prompts(
        ("drums", "no piano", "house"), ["{tags}", "amapiano with {tags}, live", "just this"]
    )
    assert made == ["drums, house", "amapiano with drums, house, live", "just this"]
    assert data.make_prompts(("novelty",), ["{tags}"]) == ["novelty"]  # "no" is a word, not a beginning
    assert data.make_prompts(("no piano",), ["log drums, {tags}"]) == ["log drums"]


def test_a_prompt_of_nothing_is_refused_with_the_tags_that_gave_it():
    with pytest.raises(UserError, match=r"prompt_templates.*no piano") as refused:
        data.make_prompts(("no piano", "no drums"), ["{tags}"])
    assert "\n" not in str(refused.value)


# ----------------------------------------------------------------------- crops


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([-100.0, -60.0, -59.0, 0.0]), min_size=1, max_size=40), st.integers(1, 45))
def test_crops_start_wherever_they_hold_something_loud_and_nowhere_else(level, frames):
    level = np.array(level, np.float16)
    starts = data.crop_starts(level, frames)
    every = [at for at in range(max(1, len(level) - frames + 1)) if (level[at : at + frames] > -60).any()]
    assert starts.tolist() == every


@pytest.fixture(scope="module")
def crops(table, cached):
    clips = [clip for clip in data.read_table(table) if clip.split == "train"]
    return data.Crops(clips, cached, TEMPLATES, 150, 0.3)


def drawn(crops, index, epoch=1, seed=7):
    return crops.item(index, order.item_rng(seed, epoch, index))


def test_an_item_is_a_function_of_seed_epoch_and_index(crops):
    assert len(crops) > 15
    for index in (0, 9):
        a, b = drawn(crops, index), drawn(crops, index)
        assert np.array_equal(a.codes, b.codes) and np.array_equal(a.states, b.states)
        others = [drawn(crops, index, epoch=epoch) for epoch in range(2, 8)]
        assert any(not np.array_equal(a.codes, other.codes) for other in others)
        assert any(a.states.shape != other.states.shape for other in others)  # another prompt, or none


def test_an_item_is_a_piece_of_its_clip_and_a_prompt_of_it(crops):
    key, names = crops.items[3]
    whole = crops.codes.get(key)
    for epoch in range(6):
        item = drawn(crops, 3, epoch)
        assert item.codes.shape == (4, 150) and item.codes.dtype == np.int16
        windows = np.lib.stride_tricks.sliding_window_view(whole, 150, axis=1)
        assert (windows == item.codes[:, None]).all((0, 2)).sum() == 1
        states = [code_cache.prompt_states(crops.states, name) for name in names]
        assert not len(item.states) or any(np.array_equal(item.states, state) for state in states)


def test_prompts_are_forgotten_as_often_as_asked_and_never_in_validation(table, cached, crops):
    forgotten = np.mean(
        [len(drawn(crops, index, epoch).states) == 0 for index in range(15) for epoch in range(40)]
    )
    assert forgotten == pytest.approx(0.3, abs=0.06)
    held_out = data.Crops(data.read_table(table), cached, TEMPLATES, 150, 0.0)
    assert all(len(drawn(held_out, index, epoch).states) for index in range(20) for epoch in range(5))


def test_a_clip_shorter_than_a_crop_is_taken_whole_and_padded(crops):
    long, short = drawn(crops, 0), data.Crop(drawn(crops, 1).codes[:, :60], np.zeros((0, 32), np.float16), 32)
    batch = data.collate([long, short], 64)
    assert batch["inputs"].shape == batch["targets"].shape == (2, 4, 153)
    assert batch["inputs"].dtype == batch["mask"].dtype == torch.int64
    laid = batch["targets"][1]
    assert (laid != IGNORED).sum() == 4 * 60
    for book in range(4):
        assert laid[book, book : book + 60].tolist() == short.codes[book].tolist()
    assert batch["states"].dtype == torch.float32 and batch["mask"][1].sum() == 0
    assert batch["mask"][0].sum() == len(long.states) > 0
    assert torch.equal(batch["states"][0, : len(long.states)], torch.from_numpy(long.states).float())
    assert (batch["states"][batch["mask"] == 0] == 0).all()


def test_a_batch_without_any_prompt_has_one_masked_state(crops):
    none = np.zeros((0, 32), np.float16)
    batch = data.collate([data.Crop(drawn(crops, n).codes, none, 32) for n in range(3)], 64)
    assert batch["states"].shape == (3, 1, 32) and batch["mask"].tolist() == [[0], [0], [0]]
