"""Write the campaign for stakeholders: what was hoped for, what came out, what it cost, how it was done.

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
from kwela.campaign.money.clock import HOUR
from kwela.campaign.money.costs import gpu_usd_by_day
from kwela.campaign.money.ledger_rows import span_rows
from kwela.campaign.report import campaign_plots
from kwela.campaign.report.blocks import Block, Picture, Table, Text, Title
from kwela.campaign.report.deliverables import rehearsal_note, write_deliverables
from kwela.campaign.report.documents import write_document
from kwela.campaign.run import evaluation, success_criteria
from kwela.campaign.run.campaign_state import TABLE, CampaignState, read_state
from kwela.campaign.run.gate_procedure import ABORT_REPORT
from kwela.campaign.run.success_criteria import (
    EVALUATION,
    NOT_MEASURED,
    figure_text,
    outdated_version,
    read_evaluation,
)
from kwela.engine.journal import changed_settings
from kwela.playbook import PlaybookConfig

SAMPLES_SHOWN = 10


def write_report(settings: PlaybookConfig) -> JsonObject:
    """Write report/report.{md,html,pdf} and deliverables/ in the checkpoint folder.

    Returns {"report": paths, "deliverables": the index}. Raises UserError or KwelaError as `write_document`,
    after everything else is written.
    """
    folder = settings.checkpoint_dir
    state = read_state(folder, settings)
    out = folder / "report"
    blocks = list(_document(folder, settings, state, out))
    methodology = list(_methodology(folder, settings, state, 1))
    try:
        paths = write_document(blocks, out, "report")
    finally:  # a PDF that fails does not keep the deliverables from being written
        index = write_deliverables(folder, settings, state, methodology, out)
    return {"report": [str(path) for path in paths], "deliverables": index}


def summary_lines(written: JsonObject) -> list[str]:
    """Return what `write_report` wrote, for a terminal."""
    missing = [item["what"] for item in written["deliverables"] if not item["there"]]
    total = len(written["deliverables"])
    lines = [f"Report: {files.display_path(Path(written['report'][1]))}"]
    lines.append(f"Deliverables: {total - len(missing)} of {total} are there")
    return [*lines, f"  lacking: {', '.join(missing)}"] if missing else lines


def _document(folder: Path, settings: PlaybookConfig, state: CampaignState, out: Path) -> Iterator[Block]:
    yield Title("Phase 2.5: MagnaTagATune Proxy Training", 1)
    yield Text(_summary(state))
    yield from rehearsal_note(state)
    yield from _indicators(folder, state)
    yield from _gate(state)
    yield from _cost(state, out)
    yield from _training(folder, state, out)
    yield from _authenticity(folder)
    yield from _damage(folder)
    yield from _samples(folder, settings, out)
    yield Title("Methodology")
    yield from _methodology(folder, settings, state, 3)
    yield from _ablations(folder)
    yield from _publication_readiness(folder, settings, state)


def _summary(state: CampaignState) -> str:
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    verb, totals = "has ended" if state.is_finished else "stands", state.totals
    return (
        f"{state.model}, fine-tuned. The campaign {verb} at step {state.curve.step:,} of {state.steps:,} "
        f"on day {totals.days:.1f}, after {totals.billed_seconds / HOUR:,.1f} billed hours "
        f"and ${totals.usd:,.2f} of ${totals.budget_usd:,.2f}. "
        f"Go/No-Go: {state.verdict_text}. Written {written}."
    )


def _indicators(folder: Path, state: CampaignState) -> Iterator[Block]:
    yield Title("Key performance indicators")
    rows = [
        [row.metric, row.baseline, row.target, row.actual, row.status]
        for row in success_criteria.dashboard(folder, state)
    ]
    yield Table(["Metric", "Baseline", "Target", "Actual", "Status"], rows)
    yield Text("Baselines and targets are the playbook's; what was measured here stands beside them.")
    yield Title("Success criteria", 3)
    criteria = [[text, status] for status, text in success_criteria.criteria(folder, state)]
    yield Table(["Criterion", "Status"], criteria)


def _gate(state: CampaignState) -> Iterator[Block]:
    yield Title("Go/No-Go")
    decision = state.decision
    if decision is None:
        yield Text("The gate has not decided yet.")
        return
    yield Text(f"{decision.verdict} on day {decision.measurements.days:.1f}.")
    rows = [[rule.name, rule.outcome, rule.explanation] for rule in decision.rules]
    yield Table(["Rule", "Outcome", "Evidence"], rows)
    if state.override:
        yield Text(f"Overridden: {state.override['why']}")
    if decision.verdict == gate.NO_GO:
        yield Text(f"What the decision matrix says: {'; '.join(gate.recommended_actions(decision))}.")


def _cost(state: CampaignState, out: Path) -> Iterator[Block]:
    yield Title("Cost")
    totals, by_day, spans = state.totals, gpu_usd_by_day(state.rows), span_rows(state.rows)
    rows = []
    for market in sorted({market for _, market in by_day}):
        in_market = [span for span in spans if span["market"] == market]
        hours = sum(span["seconds"] for span in in_market) / HOUR
        usd = sum(value for (_, each), value in by_day.items() if each == market)
        prices = sorted({f"${span['price']:g}" for span in in_market})
        rows.append([f"GPU, {market}", f"{hours:,.1f} h at {' and '.join(prices)}", f"${usd:,.2f}"])
    rows += [
        ["disk", "from the first day on, stopped or not", f"${totals.disk_usd:,.2f}"],
        ["setup", "before training, as agreed", f"${totals.setup_usd:,.2f}"],
        ["together", f"budget ${totals.budget_usd:,.2f}", f"${totals.usd:,.2f}"],
    ]
    yield Table(["What", "How much", "Dollars"], rows)
    if by_day:
        picture = campaign_plots.draw_costs(state, out / "cost.png")
        yield _shown(picture, "GPU dollars by day and market; all dollars beside the budget.")
    span_table = [
        [
            span["instance"],
            span["market"],
            _minute(span["from"]),
            _minute(span["to"]),
            f"{span['seconds'] / HOUR:,.1f} h",
            span["why"] or "runs, or killed",
        ]
        for span in spans
    ]
    yield Table(["Instance", "Market", "From", "To", "Billed", "Why it ended"], span_table)


def _training(folder: Path, state: CampaignState, out: Path) -> Iterator[Block]:
    yield Title("Training")
    curve = state.curve
    if curve.train or curve.val:
        best, base = figure_text(curve.best_val_loss, ".3f"), figure_text(curve.base, ".3f")
        picture = campaign_plots.draw_losses(state, out / "loss.png")
        yield _shown(picture, f"Best validation loss {best}; untuned model {base}.")
    yield Title("Red flags", 3)
    rows = [
        [
            _minute(row["at"]),
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
    answer = read_evaluation(folder).authenticity
    if answer.get("status") != "measured" or not answer.get("ci"):
        reason = f"{answer.get('status')}: {answer.get('why')}" if answer else "no samples were judged"
        yield Text(f"{NOT_MEASURED} ({reason})")
        return
    if version := outdated_version(answer):
        yield Text(
            f"These figures are by version {version} of the judge, which has changed since: they do not "
            "compare with figures by today's. Version 1 also heard how long a clip is. "
            "`kwela judge authenticity` measures the same clips anew."
        )
    low, high = answer["ci"]
    rows = [
        ["tuned samples", f"{answer['score']:.1%}", f"{low:.1%} .. {high:.1%}"],
        ["untuned model, same prompts", figure_text(answer.get("base"), ".1%"), ""],
        ["real music of the style (ceiling)", figure_text(answer.get("ceiling"), ".1%"), ""],
        ["other music (floor)", figure_text(answer.get("floor"), ".1%"), ""],
    ]
    yield Table(["Share past the threshold", "Value", "95 % interval"], rows)
    auc = figure_text((answer.get("auc") or {}).get("value"), ".2f")
    yield Text(
        f"The judge tells real music of the style from other music with an AUC of {auc}. "
        f"p against the untuned model: {figure_text(answer.get('p_value'), '.3g')}."
    )
    yield from _pictures(folder / EVALUATION / "authenticity")


def _damage(folder: Path) -> Iterator[Block]:
    yield Title("Damage")
    answer = read_evaluation(folder).damage
    if not answer.get("verdicts"):
        yield Text(NOT_MEASURED)
        return
    verdicts = [
        [name.replace("_", " "), _value_text(value)]
        for name, value in answer["verdicts"].items()
        if name != "status"
    ]
    yield Table(["Measure", "Beside the untuned model"], verdicts)
    rows = [
        [
            measure.replace("_", " "),
            row["row"],
            figure_text(row["value"], ".3g"),
            _value_text(row.get("ci")),
        ]
        for measure, table in answer.get("tables", {}).items()
        for row in table
    ]
    yield Table(["Measure", "Clips", "Value", "95 % interval"], rows)
    yield from _pictures(folder / EVALUATION / "damage")


def _samples(folder: Path, settings: PlaybookConfig, out: Path) -> Iterator[Block]:
    yield Title("Samples")
    clips = sample_files(folder)
    if not clips:
        yield Text(f"{NOT_MEASURED}: no samples were made")
        return
    prompts = settings.evaluation.prompts
    titled = [(prompts[k % len(prompts)], path) for k, path in enumerate(clips)]
    yield Table(["File", "Prompt"], [[str(path.relative_to(folder)), prompt] for prompt, path in titled])
    named = [(f"{path.stem}: {prompt}", path) for prompt, path in titled]
    picture = campaign_plots.draw_spectrograms(named, out / "samples.png")
    yield _shown(picture, "Spectrograms (kHz over seconds), one scale for all.")


def _shown(picture: Path | None, caption: str) -> Block:
    """Return a picture with its caption, or words where it could not be drawn."""
    return Picture(picture, caption) if picture else Text(f"{caption} (The picture could not be drawn.)")


def sample_files(folder: Path) -> list[Path]:
    """Return the first samples of the tuned model, in the order of their prompts."""
    clips = (folder / EVALUATION / evaluation.TUNED).glob("test_output_*.wav")
    return sorted(clips, key=lambda path: int(path.stem.rpartition("_")[2]))[:SAMPLES_SHOWN]


def _methodology(folder: Path, settings: PlaybookConfig, state: CampaignState, level: int) -> Iterator[Block]:
    """Yield how the data, the training and the evaluation were made. level: of the titles."""
    yield Title("Data", level)
    yield Text(_data_text(read_json(settings.dataset_dir / TABLE / "dataset_report.json")))
    yield Title("Training", level)
    run = read_json(folder / "run.json")
    if not run:
        yield Text(f"run.json: {NOT_MEASURED}")
        return
    yield Text(_training_text(run, state))
    rows = [[key, _value_text(value)] for key, value in _flat(run.get("config", {}))]
    yield Table(["Setting", "Value"], rows)
    yield Title("Evaluation", level)
    if not read_evaluation(folder).generation:
        yield Text("No clips were made of these weights; this was planned:")
    yield Text(_evaluation_text(settings))


def _data_text(report: JsonObject) -> str:
    if not report:
        return f"dataset_report.json: {NOT_MEASURED}"
    chosen = report.get("settings", {})
    split = ", ".join(f"{count:,} {side}" for side, count in report.get("clips_by_split", {}).items())
    return (
        f"Of {report.get('clips', 0):,} clips with {report.get('tag_columns', 0)} tags, "
        f"{report.get('qualifying', 0):,} carry at least {chosen.get('min_tags')} of "
        f"{len(chosen.get('proxy_groups', {}))} groups of proxy tags; {report.get('kept', 0):,} were kept "
        f"({split}; {report.get('hours')} hours; {_artists_text(report)}; "
        f"at most {chosen.get('max_clips_per_artist')} clips an artist). "
        f"{len(report.get('broken', {}))} did not decode."
    )


def _artists_text(report: JsonObject) -> str:
    """Return what the data set's report says of artists on two sides: only what was checked."""
    known, torn = report.get("artists_known"), report.get("artists_on_two_sides")
    if known is None:  # a report of before: only MagnaTagATune's clips all had an artist
        checked = report.get("collection", "magnatagatune") == "magnatagatune"
        return "no artist on two sides" if checked else "split by the names of the files"
    if torn:
        return f"{len(torn)} artists on two sides"
    if known < report.get("kept", 0):
        return f"the artist of {known:,} clips is known; no song on two sides"
    return "no artist on two sides"


def _training_text(run: JsonObject, state: CampaignState) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in run.get("versions", {}).items())
    machine = run.get("hardware", {})
    return (
        f"{state.model}; {state.steps:,} optimiser steps planned, {state.curve.step:,} done; "
        f"batch {_value_text(run.get('batch'))}; seed {run.get('seed')}; "
        f"{machine.get('name') or 'unknown device'} ({machine.get('device')}); {versions}; "
        f"commit {run.get('commit') or 'unknown'}; "
        f"{len(run.get('resumes', []))} resumes; {run.get('device_seconds', 0) / HOUR:,.1f} device hours."
    )


def _evaluation_text(settings: PlaybookConfig) -> str:
    limits, samples = settings.go_nogo_thresholds, settings.evaluation
    return (
        f"{samples.samples} clips of {samples.seconds:g} s from {len(samples.prompts)} prompts, seeds from "
        f"{samples.seed}, by the tuned and the untuned model. GO asks for an authenticity of "
        f"{limits.min_authenticity_score:.0%} at the lower end of its interval, a cost of at most "
        f"${limits.max_cost_usd:,.0f}, and a validation loss of at most {limits.max_val_loss:g} "
        "that is below the untuned model's."
    )


def _ablations(folder: Path) -> Iterator[Block]:
    """Yield the other runs beside this one: which settings differ, and the loss that they reached."""
    yield Title("Ablations")
    config = read_json(folder / "run.json").get("config", {})
    rows = []
    for run in _other_runs(folder):
        changes = changed_settings(read_json(run / "run.json").get("config", {}), config)
        text = "; ".join(f"{key} {other} (here {here})" for key, (other, here) in changes.items())
        loss = figure_text(read_loss_curve(run).best_val_loss, ".3f")
        rows.append([run.name, text or "nothing", loss])
    if rows:
        yield Table(["Run", "What differs", "Best validation loss"], rows)
    else:
        yield Text(f"{NOT_MEASURED}: there is no other run beside this one")


def _other_runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.parent.glob("*/run.json") if path.parent != folder)


def _publication_readiness(folder: Path, settings: PlaybookConfig, state: CampaignState) -> Iterator[Block]:
    """Yield the playbook's list of what a publication needs."""
    yield Title("Research publication readiness")
    authenticity = read_evaluation(folder).authenticity
    dataset_report = settings.dataset_dir / TABLE / "dataset_report.json"
    is_there = {
        "Dataset filtering methodology documented": dataset_report.is_file(),
        "Training hyperparameters logged": (folder / "run.json").is_file(),
        "Ablation studies conducted": len(list(folder.parent.glob("*/run.json"))) > 1,
        "Baseline comparisons recorded": state.curve.base is not None
        and authenticity.get("base") is not None,
        "Cultural validation results (a listening sheet that was filled in)": "listening"
        in authenticity.get("tables", {}),
    }
    if state.verdict == gate.NO_GO:
        is_there["Failure mode analysis"] = (folder / ABORT_REPORT).is_file()
    yield Table(["What", ""], [[what, "there" if there else "lacking"] for what, there in is_there.items()])


def _pictures(folder: Path) -> Iterator[Block]:
    for path in sorted(folder.glob("*.png")):
        yield Picture(path, f"{path.stem.replace('_', ' ').capitalize()}.")


def _flat(tree: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested settings as (dotted key, value)."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value_text(value: Any) -> str:
    """Return a value of a JSON file for a table; a list of two floats is an interval."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, float) for end in value):
        return f"{value[0]:.3g} .. {value[1]:.3g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _minute(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")
