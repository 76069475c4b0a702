"""Golden records of campaigns: what is said ahead, and what one that ran is reported as."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import made_inputs
import soundfile
from bench import Bench, Record, files_in, kind_of, sha256, subject


def _seal(row: Record) -> str:
    """A row of a ledger as its line: JSON with the first 16 digits of the body's SHA-256 last."""
    body = json.dumps(row)
    return f'{body[:-1]}, "sum": "{sha256(body.encode())[:16]}"}}\n'


def _made_campaign(folder: Path) -> Path:
    """Ten days of a campaign, an hour a line, without a gate; the times are fixed."""
    made_inputs.campaign_config(folder, budget_usd=500, week_5_threshold_days=35)
    (folder / "ck").mkdir()
    settings = {"model_name": "facebook/musicgen-small", "dataset_dir": "../datasets", "speed": 1.0}
    money = {"budget_usd": 500.0, "setup_usd": 25.0, "began": None}
    rows: list[Record] = [{"kind": "campaign", "at": 1.7e9, "id": "0011aabb", "settings": settings, **money}]
    for number, (market, price) in enumerate((("spot", 0.39), ("on-demand", 1.3))):
        begun = 1.7e9 + number * 5 * 86400
        machine = {
            "instance": f"i-{number}",
            "market": market,
            "price": price,
            "disk_gb": 100.0,
            "disk_usd": 0.08,
        }
        for hour in range(1, 101, 3):
            passed = hour * 3600.0
            times = {"from": begun, "to": begun + passed, "seconds": passed, "up": passed, "awake": passed}
            step = 10 * (hour + 100 * number)
            span = {"kind": "span", "span": f"aa{number}", "boot": str(number), **machine, **times}
            rows.append({**span, "step": step, "why": ""})
    (folder / "ck" / "ledger.jsonl").write_text("".join(map(_seal, rows)))
    metrics: list[Record] = [{"step": 0, "epoch": 1, "split": "val", "val_loss": 3.5}]
    metrics += [{"step": 10 * k, "epoch": 1, "split": "train", "loss": 4.5 - k / 240} for k in range(1, 200)]
    (folder / "ck" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (folder / "ck" / "run.json").write_text(json.dumps({"steps": 9600}))
    return folder


def _held_campaign(folder: Path, name: str) -> Path:
    """A campaign that ran to its end before: its files, and sounds where its samples were."""
    source = Path(__file__).with_name("inputs") / name
    changes = json.loads((source / "changes.json").read_text())
    made_inputs.campaign_config(folder, **changes)
    shutil.copytree(
        source / "ck", folder / "ck", copy_function=shutil.copyfile
    )  # new files: written just now
    for side in ("base", "tuned"):
        for number in range(3):
            place = folder / "ck" / "evaluation" / side / f"test_output_{number + 1}.wav"
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, made_inputs.clip("bass", number, 0, 1.0), 16_000)
    (folder / "ck" / "best_model.pt").write_bytes(b"weights")
    return folder


@subject
def campaign_ahead(bench: Bench) -> Record:
    """What is said before any money is spent: plan, simulation, the names of the checks."""
    root = made_inputs.checkout(bench.folder / "ahead")
    exact: Record = {}
    arithmetic: Record = {}
    for name, words in (
        ("plan", ["plan"]),
        ("plan_by_throughput", ["plan", "--throughput", "0.5"]),
        ("simulate", ["simulate", "--runs", "40"]),
        ("simulate_on_demand", ["simulate", "--runs", "20", "--market", "on-demand", "--seed", "3"]),
    ):
        exact[name] = bench.kwela("campaign", *words, cwd=root)
        arithmetic[name] = _money(bench.kwela("campaign", *words, "--json", cwd=root)["json"])
    checked = bench.kwela("campaign", "check", "--json", "--mbps", "50", cwd=root)
    text = "\n".join(checked["stdout"])
    exact["checks"] = [item["name"] for item in json.loads(text)["checks"]] if text else [checked["status"]]
    return {"exact": exact, "arithmetic": arithmetic}


def _money(value: Any) -> Any:
    """Rename the keys of hours and dollars, which elsewhere are durations of this run."""
    if isinstance(value, dict):
        return {
            f"{key}_" if key in ("hours", "dollars") else key: _money(item) for key, item in value.items()
        }
    return [_money(item) for item in value] if isinstance(value, list) else value


@subject
def campaign_files(bench: Bench) -> Record:
    """Status, report and extension of three campaigns: under way, ended with GO, ended with NO-GO."""
    exact: Record = {}
    arithmetic: Record = {}
    for name in ("under_way", "go", "no_go"):
        folder = bench.folder / f"campaign_{name}"
        folder.mkdir()
        _made_campaign(folder) if name == "under_way" else _held_campaign(folder, f"campaign_{name}")
        given = ["--config", "config.json"]
        exact[name] = {"status": bench.kwela("campaign", "status", *given, cwd=folder)}
        status = bench.kwela("campaign", "status", *given, "--json", cwd=folder)
        arithmetic[name] = {"status": _money(status["json"])}
        report = bench.kwela("campaign", "report", *given, "--json", cwd=folder)
        for item in report["json"]["deliverables"]:
            item.pop("sha256")  # the report names the minute in which it was written
        exact[name]["report"] = report["json"]
        for page in sorted([*folder.glob("ck/report/*.md"), *folder.glob("ck/deliverables/*.md")]):
            exact[name][page.name] = [re.sub(r"[\d,]+ \| [0-9a-f]{16}", "BYTES | HASH", line)
                                      for line in page.read_text().splitlines()]  # fmt: skip
        exact[name]["files"] = {file: kind_of(folder / "ck" / file) for file in files_in(folder / "ck")}
        extended = bench.kwela("campaign", "extend", "--to", "9000", *given, cwd=folder)
        last = json.loads((folder / "ck" / "ledger.jsonl").read_text().splitlines()[-1])
        exact[name]["extend"] = [extended, {key: v for key, v in last.items() if key not in ("at", "sum")}]
        less = bench.kwela("campaign", "extend", "--to", "100", *given, cwd=folder)
        exact[name]["extend_to_less"] = less["status"]
    return {"exact": exact, "arithmetic": arithmetic}
