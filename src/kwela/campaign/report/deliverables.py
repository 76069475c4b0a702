"""Write what the playbook asks to hand over after GO and after NO-GO: drafts with figures, and an index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kwela import files
from kwela.campaign.decide import gate
from kwela.campaign.decide.gate import GateDecision, RuleResult
from kwela.campaign.decide.json_files import JsonObject
from kwela.campaign.report.blocks import Block, Table, Text, Title
from kwela.campaign.report.documents import markdown_text
from kwela.campaign.run import success_criteria
from kwela.campaign.run.campaign_state import CampaignState, best_model
from kwela.campaign.run.gate_procedure import ABORT_REPORT
from kwela.campaign.run.success_criteria import EVALUATION, figure_text
from kwela.playbook import PlaybookConfig

WEIGHTS = "musicgen_amapiano_v1.pt"


def write_deliverables(
    folder: Path,
    settings: PlaybookConfig,
    state: CampaignState,
    methodology: Sequence[Block],
    report_folder: Path,
) -> list[JsonObject]:
    """Write deliverables/ in checkpoint folder `folder`: the drafts and INDEX.md.

    Before a GO or NO-GO the list is that of GO; what other people use is made after GO alone. Returns the
    index: what, path, there, bytes, sha256.
    """
    out = folder / "deliverables"
    is_no_go = state.verdict == gate.NO_GO
    title = Title("Methodology (draft of the paper's section)", 1)
    _write_draft(state, out / "methodology.md", [title, *methodology])
    if is_no_go:
        _write_after_no_go(out, state)
    else:
        _write_after_go(out, folder, state)
    wanted = _wanted_after_no_go(folder, out) if is_no_go else _wanted_after_go(folder, settings, out)
    wanted += [("Report", report_folder / "report.pdf"), ("Cost breakdown", report_folder / "report.md")]
    index = [_index_row(what, path) for what, path in wanted]
    _write_draft(state, out / "INDEX.md", _index_document(state, index))
    return index


def rehearsal_note(state: CampaignState) -> list[Block]:
    """Return what stands below the title of every document of a rehearsal; nothing for a campaign."""
    if state.speed == 1:
        return []
    return [
        Text(
            f"REHEARSAL: the clock ran {state.speed:g} times as fast. "
            "Days and dollars are made up, the rest is real."
        )
    ]


# ------------------------------------------------------------------ the index


def _wanted_after_go(folder: Path, settings: PlaybookConfig, out: Path) -> list[tuple[str, Path]]:
    samples = folder / EVALUATION / "tuned"
    return [
        ("Fine-tuned model weights", best_model(folder)),
        (f"The same for the API ({WEIGHTS})", out / WEIGHTS),
        ("Training log (JSON)", folder / "metrics.jsonl"),
        ("Training log (TensorBoard)", settings.tensorboard_dir),
        ("Authenticity validation report", folder / EVALUATION / "authenticity.json"),
        *[(f"Sample {number}", samples / f"test_output_{number}.wav") for number in range(1, 11)],
        ("Research paper draft (methodology section)", out / "methodology.md"),
        ("README draft", out / "README_draft.md"),
        ("Announcement draft", out / "announcement_draft.md"),
    ]


def _wanted_after_no_go(folder: Path, out: Path) -> list[tuple[str, Path]]:
    return [
        ("Abort report", folder / ABORT_REPORT),
        ("Failure analysis document", out / "failure_analysis.md"),
        ("Phase 3 escalation plan", out / "phase_3_plan.md"),
        ("Budget request for full training", out / "budget_request.md"),
        ("Lessons learned documentation", out / "lessons_learned.md"),
        ("Research paper draft (methodology section)", out / "methodology.md"),
    ]


def _index_row(what: str, path: Path) -> JsonObject:
    """Return an item with its size and SHA-256; a file or folder without any content is not there."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return {"what": what, "path": str(path), "there": size > 0, "bytes": size, "sha256": None}
    size = path.stat().st_size if path.is_file() else 0
    digest = files.sha256(path) if size else None
    return {"what": what, "path": str(path), "there": size > 0, "bytes": size, "sha256": digest}


def _index_document(state: CampaignState, index: list[JsonObject]) -> list[Block]:
    is_decided = state.verdict in (gate.GO, gate.NO_GO)
    heading = f"After {state.verdict_text}" if is_decided else f"Before GO (the gate: {state.verdict_text})"
    rows = [
        [
            row["what"],
            row["path"],
            f"{row['bytes']:,}" if row["there"] else "lacking",
            (row["sha256"] or "")[:16],
        ]
        for row in index
    ]
    table = Table(["What", "Where", "Bytes", "SHA-256"], rows)
    return [Title("Deliverables", 1), Text(heading), table]


# ------------------------------------------------------------------ after GO


def _write_after_go(out: Path, folder: Path, state: CampaignState) -> None:
    rows = [[row.metric, row.baseline, row.actual] for row in success_criteria.dashboard(folder, state)]
    figures = Table(["Metric", "Before", "Now"], rows)
    criteria = [[text, status] for status, text in success_criteria.criteria(folder, state)]
    blocks: list[Block] = [
        Title("Amapiano generation", 1),
        Text(_status_text(state)),
        figures,
        Title("Success criteria"),
        Table(["Criterion", "Status"], criteria),
    ]
    _write_draft(state, out / "README_draft.md", blocks)
    if not state.gate_said_go:
        return
    _offer_weights(best_model(folder), out / WEIGHTS)
    greeting = Text(
        "To our beta testers: a new model is ready to be tried. What we measured, and what we did not:"
    )
    request = Text("Please test it, and tell us what you hear: real listeners are the evidence we lack most.")
    blocks = [Title("A new model to try", 1), greeting, figures, request]
    _write_draft(state, out / "announcement_draft.md", blocks)


def _status_text(state: CampaignState) -> str:
    if state.is_finished and state.gate_said_go:
        return "Status: Beta"
    return f"Status: Experimental (the campaign has not ended with GO; the gate: {state.verdict_text})"


def _offer_weights(weights: Path, path: Path) -> None:
    """Give the weights another name where the disk can; else copy them. The result is whole or absent."""
    if not weights.is_file():
        return
    with files.draft(path) as draft:
        try:
            os.link(weights, draft)
        except OSError:
            shutil.copyfile(weights, draft)


# ------------------------------------------------------------------ after NO-GO


def _write_after_no_go(out: Path, state: CampaignState) -> None:
    assert state.decision is not None
    _write_draft(state, out / "failure_analysis.md", _failure_analysis(state.decision))
    _write_draft(state, out / "phase_3_plan.md", _phase_3_plan(state.decision))
    _write_draft(state, out / "budget_request.md", _budget_request(state))
    _write_draft(state, out / "lessons_learned.md", _lessons_learned(state, state.decision))


def _failure_analysis(decision: GateDecision) -> list[Block]:
    failed = decision.rules_that("fails")
    others = [rule for rule in decision.rules if rule not in failed]
    unknown = Text(
        "Why: insufficient data, wrong tags, or the model's limits? "
        "The figures above can't tell; the authors must say."
    )
    return [
        Title("Failure analysis", 1),
        Title("What failed"),
        _rule_table(failed),
        Title("What did not"),
        _rule_table(others),
        unknown,
    ]


def _rule_table(rules: Sequence[RuleResult]) -> Table:
    return Table(["Rule", "Evidence"], [[rule.name, rule.explanation] for rule in rules])


def _phase_3_plan(decision: GateDecision) -> list[Block]:
    lines = [
        *gate.recommended_actions(decision),
        f"Timeline: {gate.PHASE_3['estimated_phase_3_timeline']}",
        f"Budget: {gate.PHASE_3['estimated_phase_3_cost']}",
        "Team: data labelers, expert panel",
    ]
    return [Title("Phase 3 escalation plan", 1), *map(Text, lines)]


def _budget_request(state: CampaignState) -> list[Block]:
    totals = state.totals
    spent = f"${totals.usd:,.2f} of ${totals.budget_usd:,.2f}, over {totals.days:.1f} days."
    cost = gate.PHASE_3["estimated_phase_3_cost"]
    return [
        Title("Budget request for full training", 1),
        Text(f"Spent so far: {spent}"),
        Text(f"Asked for: {cost}, for a full Amapiano data set (the playbook's estimate)."),
    ]


def _lessons_learned(state: CampaignState, decision: GateDecision) -> list[Block]:
    measured = decision.measurements
    loss, base_loss = figure_text(measured.val_loss, ".3f"), figure_text(measured.base_loss, ".3f")
    interval = ""
    if measured.interval:
        interval = f", interval {measured.interval[0]:.1%} .. {measured.interval[1]:.1%}"
    unspent = max(0.0, state.totals.budget_usd - state.totals.usd)
    lines = [
        f"Validation loss {loss} beside {base_loss} of the untuned model.",
        f"Authenticity {figure_text(measured.authenticity, '.1%')}{interval}.",
        f"The gate decided at {state.progress:.0%} of the training; "
        f"${unspent:,.2f} of the budget is unspent.",
    ]
    return [Title("Lessons learned", 1), *map(Text, lines)]


def _write_draft(state: CampaignState, path: Path, blocks: Sequence[Block]) -> None:
    """Write a document as Markdown. blocks: the first is its title."""
    blocks = [*blocks[:1], *rehearsal_note(state), *blocks[1:]]
    files.write(path, markdown_text(blocks, path.parent))
