"""The campaign as a stakeholder reads it: what was hoped for, what came out, what it cost, how it was done.

Everything comes from files that the campaign left; what isn't in them is "not measured".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kwela import files
from kwela.campaign.decide import gate, red_flags
from kwela.campaign.decide.json_files import JsonObject, read_json, read_json_lines
from kwela.campaign.decide.loss_curve import read_loss_curve
from kwela.campaign.money import costs, ledger_rows
from kwela.campaign.money.clock import HOUR
from kwela.campaign.report import deliverables, documents, plots
from kwela.campaign.report.documents import Block, Picture, Table, Text, Title
from kwela.campaign.run import evaluation as commands
from kwela.campaign.run import results, state
from kwela.campaign.run.results import NOT_MEASURED, number
from kwela.campaign.run.state import Standing
from kwela.engine.journal import changed_settings
from kwela.playbook import PlaybookConfig

SAMPLES = 10


def write(settings: PlaybookConfig) -> JsonObject:
    """report/report.{md,html,pdf} and deliverables/ in the checkpoint folder; returns what is where, and what lacks."""
    folder = settings.checkpoint_dir
    now = state.look(folder, settings)
    out = folder / "report"
    blocks = list(_document(folder, settings, now, out))
    method = list(_methodology(folder, settings, now, 1))
    try:
        made = documents.write(blocks, out, "report")
    finally:  # a PDF that fails doesn't take them with it
        index = deliverables.write(folder, settings, now, method, out)
    return {"report": [str(path) for path in made], "deliverables": index}


def lines(made: JsonObject) -> list[str]:
    """What `write` made, for a terminal."""
    lacking = [item["what"] for item in made["deliverables"] if not item["there"]]
    total = len(made["deliverables"])
    text = [f"Report: {files.display_path(Path(made['report'][1]))}"]
    text.append(f"Deliverables: {total - len(lacking)} of {total} are there")
    return [*text, f"  lacking: {', '.join(lacking)}"] if lacking else text


def _document(folder: Path, settings: PlaybookConfig, now: Standing, out: Path) -> Iterator[Block]:
    yield Title("Phase 2.5: MagnaTagATune Proxy Training", 1)
    yield Text(_summary(now))
    yield from deliverables.rehearsed(now)
    yield Title("Key performance indicators")
    rows = [
        [one.metric, one.baseline, one.target, one.actual, one.status]
        for one in results.dashboard(folder, now)
    ]
    yield Table(["Metric", "Baseline", "Target", "Actual", "Status"], rows)
    yield Text("Baselines and targets are the playbook's; what was measured here stands beside them.")
    yield Title("Success criteria", 3)
    yield Table(["Criterion", "Status"], [[text, status] for status, text in results.criteria(folder, now)])
    yield from _gate(now)
    yield from _cost(now, out)
    yield from _training(folder, now, out)
    yield from _authenticity(folder)
    yield from _damage(folder)
    yield from _samples(folder, settings, out)
    yield Title("Methodology")
    yield from _methodology(folder, settings, now, 3)
    yield from _ablations(folder)
    yield from _readiness(folder, settings, now)


def _summary(now: Standing) -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    state_ = "has ended" if now.finished else "stands"
    return (
        f"{now.model}, fine-tuned. The campaign {state_} at step {now.curve.step:,} of {now.steps:,} on day "
        f"{now.bill.days:.1f}, after {now.bill.billed_seconds / HOUR:,.1f} billed hours and ${now.bill.usd:,.2f} of "
        f"${now.bill.budget_usd:,.2f}. Go/No-Go: {now.told}. Written {when}."
    )


def _gate(now: Standing) -> Iterator[Block]:
    yield Title("Go/No-Go")
    if now.verdict is None:
        yield Text("The gate has not been held.")
        return
    yield Text(f"{now.verdict.verdict} on day {now.verdict.measurements.days:.1f}.")
    yield Table(
        ["Rule", "Outcome", "Evidence"],
        [[rule.name, rule.outcome, rule.explanation] for rule in now.verdict.rules],
    )
    if now.override:
        yield Text(f"Overridden: {now.override['why']}")
    if now.verdict.verdict == gate.NO_GO:
        yield Text(f"What the decision matrix says: {'; '.join(gate.recommended_actions(now.verdict))}.")


def _cost(now: Standing, out: Path) -> Iterator[Block]:
    yield Title("Cost")
    bill, days = now.bill, costs.gpu_usd_by_day(now.rows)
    rows = []
    for market in sorted({market for _, market in days}):
        spans = [span for span in ledger_rows.span_rows(now.rows) if span["market"] == market]
        hours = sum(span["seconds"] for span in spans) / HOUR
        usd = sum(value for (_, each), value in days.items() if each == market)
        prices = sorted({f"${span['price']:g}" for span in spans})
        rows.append([f"GPU, {market}", f"{hours:,.1f} h at {' and '.join(prices)}", f"${usd:,.2f}"])
    rows += [
        ["disk", "from the first day on, stopped or not", f"${bill.disk_usd:,.2f}"],
        ["setup", "before training, as agreed", f"${bill.setup_usd:,.2f}"],
        ["together", f"budget ${bill.budget_usd:,.2f}", f"${bill.usd:,.2f}"],
    ]
    yield Table(["What", "How much", "Dollars"], rows)
    if days:
        yield Picture(
            plots.cost(now, out / "cost.png"), "GPU dollars by day and market; all dollars beside the budget."
        )
    held = ledger_rows.span_rows(now.rows)
    yield Table(
        ["Instance", "Market", "From", "To", "Billed", "Why it ended"],
        [[span["instance"], span["market"], _day(span["from"]), _day(span["to"]), f"{span['seconds'] / HOUR:,.1f} h",
          span["why"] or "runs, or killed"] for span in held],
    )  # fmt: skip


def _training(folder: Path, now: Standing, out: Path) -> Iterator[Block]:
    yield Title("Training")
    if now.curve.train or now.curve.val:
        best, base = number(now.curve.best_val_loss, ".3f"), number(now.curve.base, ".3f")
        yield Picture(
            plots.loss(now, out / "loss.png"), f"Best validation loss {best}; untuned model {base}."
        )
    yield Title("Red flags", 3)
    rows = [
        [
            _day(row["at"]),
            row["flag"],
            row["state"],
            row.get("evidence", ""),
            row.get("threshold", ""),
            row.get("action", ""),
        ]
        for row in read_json_lines(folder / red_flags.NAME)
    ]
    if rows:
        yield Table(["When", "Flag", "", "Evidence", "Threshold", "Action"], rows)
    else:
        yield Text("None went up.")


def _authenticity(folder: Path) -> Iterator[Block]:
    yield Title("Authenticity")
    said, _, _ = results.judged(folder)
    if said.get("status") != "measured" or not said.get("ci"):
        why = f"{said.get('status')}: {said.get('why')}" if said else "no samples were judged"
        yield Text(f"{NOT_MEASURED} ({why})")
        return
    low, high = said["ci"]
    rows = [
        ["tuned samples", f"{said['score']:.1%}", f"{low:.1%} .. {high:.1%}"],
        ["untuned model, same prompts", number(said.get("base"), ".1%"), ""],
        ["real music of the style (ceiling)", number(said.get("ceiling"), ".1%"), ""],
        ["other music (floor)", number(said.get("floor"), ".1%"), ""],
    ]
    yield Table(["Share past the threshold", "Value", "95 % interval"], rows)
    auc = said.get("auc") or {}
    yield Text(
        f"The judge tells real music of the style from other music with an AUC of {number(auc.get('value'), '.2f')}. "
        f"p against the untuned model: {number(said.get('p_value'), '.3g')}."
    )
    yield from _pictures(folder / results.EVALUATION / "authenticity")


def _damage(folder: Path) -> Iterator[Block]:
    yield Title("Damage")
    _, said, _ = results.judged(folder)
    if not said.get("verdicts"):
        yield Text(NOT_MEASURED)
        return
    found = [
        [name.replace("_", " "), _words(value)]
        for name, value in said["verdicts"].items()
        if name != "status"
    ]
    yield Table(["Measure", "Beside the untuned model"], found)
    rows = [
        [table.replace("_", " "), row["row"], number(row["value"], ".3g"), _words(row.get("ci"))]
        for table, found in said.get("tables", {}).items()
        for row in found
    ]
    yield Table(["Measure", "Clips", "Value", "95 % interval"], rows)
    yield from _pictures(folder / results.EVALUATION / "damage")


def _samples(folder: Path, settings: PlaybookConfig, out: Path) -> Iterator[Block]:
    yield Title("Samples")
    clips = sample_files(folder)
    if not clips:
        yield Text(f"{NOT_MEASURED}: no samples were made")
        return
    prompts = settings.evaluation.prompts
    titled = [(prompts[k % len(prompts)], path) for k, path in enumerate(clips)]
    yield Table(["File", "Prompt"], [[str(path.relative_to(folder)), prompt] for prompt, path in titled])
    drawn = [(f"{path.stem}: {prompt}", path) for prompt, path in titled]
    yield Picture(
        plots.samples(drawn, out / "samples.png"), "Spectrograms (kHz over seconds), one scale for all."
    )


def sample_files(folder: Path) -> list[Path]:
    """The first samples of the tuned model, in the order of their prompts."""
    place = folder / results.EVALUATION / commands.TUNED
    return sorted(place.glob("test_output_*.wav"), key=lambda path: int(path.stem.rpartition("_")[2]))[
        :SAMPLES
    ]


def _methodology(folder: Path, settings: PlaybookConfig, now: Standing, level: int) -> Iterator[Block]:
    run, data = (
        read_json(folder / "run.json"),
        read_json(settings.dataset_dir / state.TABLE / "dataset_report.json"),
    )
    yield Title("Data", level)
    if data:
        chosen = data.get("settings", {})
        split = ", ".join(f"{count:,} {side}" for side, count in data.get("clips_by_split", {}).items())
        yield Text(
            f"Of {data.get('clips', 0):,} clips with {data.get('tag_columns', 0)} tags, {data.get('qualifying', 0):,} "
            f"carry at least {chosen.get('min_tags')} of {len(chosen.get('proxy_groups', {}))} groups of proxy tags; "
            f"{data.get('kept', 0):,} were kept ({split}; {data.get('hours')} hours; no artist on two sides; at most "
            f"{chosen.get('max_clips_per_artist')} clips an artist). {len(data.get('broken', {}))} did not decode."
        )
    else:
        yield Text(f"dataset_report.json: {NOT_MEASURED}")
    yield Title("Training", level)
    if not run:
        yield Text(f"run.json: {NOT_MEASURED}")
        return
    versions = ", ".join(f"{name} {value}" for name, value in run.get("versions", {}).items())
    machine = run.get("hardware", {})
    yield Text(
        f"{now.model}; {now.steps:,} optimiser steps planned, {now.curve.step:,} done; "
        f"batch {_words(run.get('batch'))}; seed {run.get('seed')}; {machine.get('name') or 'unknown device'} "
        f"({machine.get('device')}); {versions}; commit {run.get('commit') or 'unknown'}; "
        f"{len(run.get('resumes', []))} resumes; {run.get('device_seconds', 0) / HOUR:,.1f} device hours."
    )
    yield Table(["Setting", "Value"], [[key, _words(value)] for key, value in _flat(run.get("config", {}))])
    yield Title("Evaluation", level)
    limits, how = settings.go_nogo_thresholds, settings.evaluation
    if not results.judged(folder)[2]:
        yield Text("No clips were made of these weights; this was planned:")
    yield Text(
        f"{how.samples} clips of {how.seconds:g} s from {len(how.prompts)} prompts, seeds from {how.seed}, by the "
        f"tuned and the untuned model. GO asks for an authenticity of {limits.min_authenticity_score:.0%} at the lower "
        f"end of its interval, a cost of at most ${limits.max_cost_usd:,.0f}, and a validation loss of at most "
        f"{limits.max_val_loss:g} that is below the untuned model's."
    )


def _ablations(folder: Path) -> Iterator[Block]:
    """Other runs beside this one: what was set otherwise, and what came of it."""
    yield Title("Ablations")
    ours = read_json(folder / "run.json").get("config", {})
    rows = []
    for other in sorted(path.parent for path in folder.parent.glob("*/run.json") if path.parent != folder):
        theirs = read_json(other / "run.json").get("config", {})
        apart = [f"{key} {was} (here {is_})" for key, (was, is_) in changed_settings(theirs, ours).items()]
        rows.append(
            [other.name, "; ".join(apart) or "nothing", number(read_loss_curve(other).best_val_loss, ".3f")]
        )
    if rows:
        yield Table(["Run", "What differs", "Best validation loss"], rows)
    else:
        yield Text(f"{NOT_MEASURED}: there is no other run beside this one")


def _readiness(folder: Path, settings: PlaybookConfig, now: Standing) -> Iterator[Block]:
    """The playbook's list of what a publication needs."""
    yield Title("Research publication readiness")
    authenticity, _, _ = results.judged(folder)
    held = {
        "Dataset filtering methodology documented": (
            settings.dataset_dir / state.TABLE / "dataset_report.json"
        ).is_file(),
        "Training hyperparameters logged": (folder / "run.json").is_file(),
        "Ablation studies conducted": len(list(folder.parent.glob("*/run.json"))) > 1,
        "Baseline comparisons recorded": now.curve.base is not None and authenticity.get("base") is not None,
        "Cultural validation results (a listening sheet that was filled in)": "listening"
        in authenticity.get("tables", {}),
    }
    if now.stands == gate.NO_GO:
        held["Failure mode analysis"] = (folder / results.ABORT).is_file()
    yield Table(["What", ""], [[what, "there" if there else "lacking"] for what, there in held.items()])


def _pictures(folder: Path) -> Iterator[Block]:
    for path in sorted(folder.glob("*.png")):
        yield Picture(path, f"{path.stem.replace('_', ' ').capitalize()}.")


def _flat(tree: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _words(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, float) for end in value):
        return f"{value[0]:.3g} .. {value[1]:.3g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _day(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")
