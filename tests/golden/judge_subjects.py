"""Golden records of the judges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import made_inputs
from bench import Bench, Record, files_in, subject


def _judged(bench: Bench, kind: str, *words: object, cwd: Path | None = None, out: str = "") -> Record:
    """A judge's JSON, its files and the headings of its page."""
    place = (cwd or bench.folder) / (out or f"judged_{kind}")
    done = bench.kwela("judge", kind, *words, "--out", place, "--json", cwd=cwd)
    assert done["status"] == 0, bench.err
    page = [line for line in (place / f"{kind}.md").read_text().splitlines() if line.startswith("#")]
    card = done["json"]
    card.pop("checkpoint_sha256", None)
    written = json.loads((place / f"{kind}.json").read_text())
    written.pop("checkpoint_sha256", None)
    same = written == card
    tables = {name: [row["row"] for row in rows] for name, rows in card["tables"].items()}
    exact = {
        "keys": sorted(card),
        "tables": tables,
        "files": files_in(place),
        "page": page,
        "file_is_json": same,
    }
    return {"exact": exact, "bits": {"card": card}}


def _together(parts: dict[str, Record]) -> Record:
    kinds = ("exact", "arithmetic", "trained", "bits")
    return {k: {name: part[k] for name, part in parts.items() if k in part} for k in kinds}


@subject
def judge_damage(bench: Bench) -> Record:
    root = bench.folder / "damage"
    for number, name in enumerate(("base", "tuned", "training", "unseen")):
        made_inputs.clip_folder(root / name, ("bass", "choir"), 10, first=100 * number)
    for number in range(10):  # names pair the sides
        for side, first in (("base", 0), ("tuned", 100)):
            (root / side / f"artist {first + number}-00.wav").rename(root / side / f"prompt {number:02}.wav")
    shutil.copy(root / "training" / "artist 203-00.wav", root / "tuned" / "prompt 04.wav")
    sides = ["--base", root / "base", "--tuned", root / "tuned"]
    known = ["--training", root / "training", "--unseen", root / "unseen"]
    few = bench.folder / "damage_few"
    made_inputs.clip_folder(few, ("bass",), 3)
    return _together(
        {
            "full": _judged(bench, "damage", *sides, *known, out="damage_full"),
            "quick": _judged(bench, "damage", *sides, "--quick", "--seed", "1", out="damage_quick"),
            "few": _judged(bench, "damage", "--base", few, "--tuned", root / "tuned", out="damage_few_out"),
        }
    )


def _styles(bench: Bench) -> Path:
    root = bench.folder / "styles"
    if not root.is_dir():
        made_inputs.clip_folder(root / "reference", ("bass",), 20, 2)
        made_inputs.clip_folder(root / "contrast", ("beat", "choir"), 20, 2, first=100)
        made_inputs.clip_folder(root / "samples", ("bass", "bass", "bass", "beat"), 40, first=200)
        made_inputs.clip_folder(root / "base", ("choir", "beat", "bass", "beat"), 40, first=300)
        for number in range(40):
            for side, first in (("samples", 200), ("base", 300)):
                clip = root / side / f"artist {first + number}-00.wav"
                clip.rename(root / side / f"prompt {number:02}.wav")
    return root


def _authenticity(bench: Bench, *more: object, reference: bool = True, out: str) -> Record:
    root = _styles(bench)
    words: list[object] = ["--contrast", root / "contrast", "--samples", root / "samples"]
    words += ["--reference", root / "reference"] if reference else []
    return _judged(bench, "authenticity", *words, *more, out=out)


@subject
def judge_authenticity_quick(bench: Bench) -> Record:
    few = made_inputs.clip_folder(bench.folder / "few", ("bass",), 6)
    root = _styles(bench)
    sheet = bench.folder / "sheet.csv"
    parts = {
        "base": _authenticity(bench, "--base", root / "base", "--quick", "--sheet", sheet, out="auth_quick"),
        "no_reference": _authenticity(bench, "--quick", reference=False, out="auth_none"),
        "few": _authenticity(bench, "--reference", few, "--quick", reference=False, out="auth_few"),
    }
    parts["base"]["exact"]["sheet"] = sheet.read_text().splitlines()[0]
    return _together(parts)


@subject
def judge_clouds(bench: Bench) -> Record:
    bench.trained("spectocloud")
    quick = _judged(bench, "clouds", "--quick", cwd=bench.corpus)
    return _together({"quick": quick})


@subject
def judge_midi(bench: Bench) -> Record:
    bench.trained("midi")
    found = _judged(bench, "midi", "--quick", cwd=bench.corpus)
    found["exact"]["twin"] = bench.kwela("judge", "twin", "--out", "twin.jsonl", cwd=bench.corpus)
    found["exact"]["twin_rows"] = (bench.corpus / "twin.jsonl").read_text().splitlines()
    return found
