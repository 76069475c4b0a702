"""grammar.json alone is enough to write `tokens.allowed`: an interpreter that knows nothing else agrees with
it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kwela.music import tokens


class Host:
    """What a host in another language would write, from the file alone."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self.follows, self.numeric = tables["follows"], tables["numeric"]
        self.kind_of = ["?"] * tables["vocab"]
        for kind, ranges in tables["kinds"].items():
            for first, last in ranges:
                self.kind_of[first : last + 1] = [kind] * (last + 1 - first)
        self.state = dict(tables["start"])
        self.names = {name: name for name in tables["follows"]}
        self.code: dict[str, Any] = {}

    def compute(self, text: str, **more: int) -> Any:
        if text not in self.code:
            python = re.sub(r"^(.+?) \? (.+?) : (.+)$", r"(\2) if (\1) else (\3)", text).replace("/", "//")
            self.code[text] = compile(python, text, "eval")
        return eval(self.code[text], {}, {**self.names, **self.state, **more})

    def value(self, one: int) -> int:
        rule = self.numeric.get(self.kind_of[one], {})
        return self.compute(rule["value"], id=one) if "value" in rule else 0

    def allowed(self) -> np.ndarray:
        following = self.follows[self.state["last"]]
        out = np.array([kind in following for kind in self.kind_of])
        for one in np.flatnonzero(out):
            rule = self.numeric.get(self.kind_of[one], {})
            if "allowed" in rule:
                out[one] = self.compute(rule["allowed"], value=self.value(one))
        return out

    def advance(self, one: int) -> None:
        value = self.value(one)
        self.state["last"] = self.kind_of[one]
        for name, text in self.numeric.get(self.kind_of[one], {}).get("update", {}).items():
            self.state[name] = self.compute(text, value=value)


def first_disagreement(tables: dict[str, Any], walks: int, steps: int) -> tuple[int, int] | None:
    """Walk at random, each kind of id that may come next as likely as the others; (walk, step) where masks
    differ.
    """
    rng = np.random.default_rng(0)
    kind_of = np.array(tokens.KIND_OF)
    for walk in range(walks):
        host, state = Host(tables), tokens.start()
        for step in range(steps):
            mask = tokens.allowed(state)
            if not np.array_equal(host.allowed(), mask):
                return walk, step
            kinds = np.unique(kind_of[mask])
            if step < steps - 1 and len(kinds) > 1:
                kinds = kinds[kinds != tokens.Kind.EOS]
            one = int(rng.choice(np.flatnonzero(mask & (kind_of == rng.choice(kinds)))))
            host.advance(one)
            state = tokens.advance(state, one)
    return None


@pytest.fixture
def tables(midi_export: tuple[Path, list[Path]]) -> dict[str, Any]:
    return json.loads((midi_export[0] / "grammar.json").read_text())


def test_a_reader_of_grammar_json_allows_what_tokens_allows(tables: dict[str, Any]) -> None:
    assert tables == tokens.tables()
    assert first_disagreement(tables, walks=20, steps=400) is None


@pytest.mark.parametrize(
    ("kind", "part", "wrong"),
    [
        ("BEAT", "allowed", "free < bar and value < bar and value + 24 >= free"),
        ("SUB", "allowed", "value > free % 24 and free - free % 24 + value < bar"),
        ("DENOMINATOR", "allowed", "numerator * 96 < 384 * value"),
    ],
)
def test_a_wrong_table_is_noticed(tables: dict[str, Any], kind: str, part: str, wrong: str) -> None:
    tables["numeric"][kind][part] = wrong
    assert first_disagreement(tables, walks=20, steps=400) is not None
