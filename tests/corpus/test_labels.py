"""A user's labels override inference, from CSV or JSON, and a bad one is named by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kwela.corpus.pairs.labels import find_label, read_labels
from kwela.corpus.pairs.scan import Pair
from kwela.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["", "stem,valence,arousal,intensity\n", "\ufeffstem,v,a,i\n"])
def test_csv_with_or_without_a_header(tmp_path, head):
    labels = read_labels(write(tmp_path / "l.csv", f"{head}x,0.7,-0.8,0.6\n\ny.wav,0,0,0\n"))
    assert {key: value.tolist() for key, value in labels.items()} == {
        "x": pytest.approx([0.7, -0.8, 0.6]),
        "y": [0, 0, 0],
    }


def test_a_stem_may_hold_a_line_break(tmp_path):
    labels = read_labels(
        write(tmp_path / "l.csv", '\nstem,valence,arousal,intensity\n"a\nb",0,0,0\na\u2028b,0,0,1\n')
    )
    assert list(labels) == ["a\nb", "a\u2028b"]


def test_json_with_64_numbers(tmp_path):
    labels = read_labels(write(tmp_path / "l.json", json.dumps({"x": [0.5] * 64})))
    assert labels["x"].shape == (64,)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("l.csv", "x,0.1,0.2,0.3\ny,0.1,0.2,nan\n", r"l.csv:row 2: number 3 is nan"),
        ("l.csv", "x,0.1,0.2,0.3\ny,0.1,oops,0.3\n", r"l.csv:row 2: expected a stem and 3 or 64 numbers"),
        ("l.csv", "x,0.1,0.2\n", r"l.csv:row 1: expected 3 numbers .* found 2"),
        ("l.csv", "x,0,0,0\nx.mid,0,0,1\n", r"l.csv:row 2: x.mid is labelled twice"),
        ("l.csv", "stem,v,a,i\n", "no labels"),
        ("l.json", '{"x": [2, 0, 0]}', r"l.json:x: number 1 is 2"),
        ("l.csv", "x,0.1,oops,0.3\ny,0,0,0\n", r"l.csv:row 1: expected a stem and 3 or 64 numbers"),
        (
            "l.csv",
            "\nstem,arousal,valence,intensity\nx,0,0,0\n",
            r"l.csv:row 1: the columns are stem,valence,arousal",
        ),
        ("l.csv", f"x,{'9' * 200_000},0,0\n", "l.csv: labels not readable"),
        ("l.json", '{"x": [0, 0, 0], "x": [1, 1, 1]}', r"l.json:x: x is labelled twice"),
        ("l.json", "[" * 100_000, "not JSON"),
        ("l.json", "[]", "expected an object"),
        ("l.json", "{", "not JSON"),
    ],
)
def test_a_bad_label_is_named(tmp_path, name, text, complaint):
    with pytest.raises(UserError, match=complaint):
        read_labels(write(tmp_path / name, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: labels not readable"):
        read_labels(tmp_path / "none.csv")


def test_a_label_with_its_folder_goes_before_the_bare_stem(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "x,0,0,0.1\nhappy/x,0,0,0.2\n"))
    a, m = tmp_path / "a", tmp_path / "m"
    assert find_label(labels, Pair(a / "happy" / "x.wav", m / "x.mid"), a, m)[0] == "happy/x"
    assert find_label(labels, Pair(a / "x.wav", m / "happy" / "x.mid"), a, m)[0] == "happy/x"
    assert find_label(labels, Pair(a / "sad" / "x.wav", m / "sad" / "x.mid"), a, m)[0] == "x"
    assert find_label(labels, Pair(a / "y.wav", m / "y.mid"), a, m) is None


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "stem,valence,arousal,intensity\r\n"])
def test_labels_are_read_with_the_separators_and_line_ends_of_other_programs(tmp_path, separator, header):
    path = tmp_path / "l.csv"
    path.write_bytes(("\ufeff" + (header + "a,0.5,-0.5,1\r\nb,0,0,0.5\r\n").replace(",", separator)).encode())
    assert {stem: list(vector) for stem, vector in read_labels(path).items()} == {
        "a": [0.5, -0.5, 1],
        "b": [0, 0, 0.5],
    }
