"""What the playbook asks to hand over, after GO and after NO-GO: drafts from the evidence, and a checked index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kwela import files
from kwela.campaign.decide import gate
from kwela.campaign.decide.json_files import JsonObject
from kwela.campaign.report import documents
from kwela.campaign.report.documents import Block, Table, Text, Title
from kwela.campaign.run import results
from kwela.campaign.run.results import number
from kwela.campaign.run.state import Standing
from kwela.playbook import PlaybookConfig

WEIGHTS = "musicgen_amapiano_v1.pt"


def write(
    folder: Path, settings: PlaybookConfig, now: Standing, methodology: Sequence[Block], report: Path
) -> list[JsonObject]:
    """deliverables/ with its drafts and INDEX.md; returns the index: what, path, there, bytes, sha256.

    Before a GO or NO-GO the list is that of GO; what is for others to use is made after GO alone. report: its folder.
    """
    out = folder / "deliverables"
    abort = now.stands == gate.NO_GO
    _draft(
        now, out / "methodology.md", [Title("Methodology (draft of the paper's section)", 1), *methodology]
    )
    if abort:
        _failure(out, now)
    else:
        _success(out, folder, now)
    wanted = _after_no_go(folder, out) if abort else _after_go(folder, settings, out)
    wanted += [("Report", report / "report.pdf"), ("Cost breakdown", report / "report.md")]
    index = [_entry(what, path) for what, path in wanted]
    rows = [
        [
            row["what"],
            row["path"],
            f"{row['bytes']:,}" if row["there"] else "lacking",
            (row["sha256"] or "")[:16],
        ]
        for row in index
    ]
    lead = f"After {now.told}" if now.stands in (gate.GO, gate.NO_GO) else f"Before GO (the gate: {now.told})"
    _draft(
        now,
        out / "INDEX.md",
        [Title("Deliverables", 1), Text(lead), Table(["What", "Where", "Bytes", "SHA-256"], rows)],
    )
    return index


def _after_go(folder: Path, settings: PlaybookConfig, out: Path) -> list[tuple[str, Path]]:
    samples = folder / results.EVALUATION / "tuned"
    return [
        ("Fine-tuned model weights", results.best(folder)),
        (f"The same for the API ({WEIGHTS})", out / WEIGHTS),
        ("Training log (JSON)", folder / "metrics.jsonl"),
        ("Training log (TensorBoard)", settings.tensorboard_dir),
        ("Authenticity validation report", folder / results.EVALUATION / "authenticity.json"),
        *[(f"Sample {number}", samples / f"test_output_{number}.wav") for number in range(1, 11)],
        ("Research paper draft (methodology section)", out / "methodology.md"),
        ("README draft", out / "README_draft.md"),
        ("Announcement draft", out / "announcement_draft.md"),
    ]


def _after_no_go(folder: Path, out: Path) -> list[tuple[str, Path]]:
    return [
        ("Abort report", folder / results.ABORT),
        ("Failure analysis document", out / "failure_analysis.md"),
        ("Phase 3 escalation plan", out / "phase_3_plan.md"),
        ("Budget request for full training", out / "budget_request.md"),
        ("Lessons learned documentation", out / "lessons_learned.md"),
        ("Research paper draft (methodology section)", out / "methodology.md"),
    ]


def _success(out: Path, folder: Path, now: Standing) -> None:
    rows = [[one.metric, one.baseline, one.actual] for one in results.dashboard(folder, now)]
    figures = Table(["Metric", "Before", "Now"], rows)
    beta = now.finished and now.earned
    state = (
        "Status: Beta"
        if beta
        else f"Status: Experimental (the campaign has not ended with GO; the gate: {now.told})"
    )
    _draft(
        now,
        out / "README_draft.md",
        [Title("Amapiano generation", 1), Text(state), figures, *_closing(folder, now)],
    )
    if not now.earned:
        return
    _offer(results.best(folder), out / WEIGHTS)
    hello = Text(
        "To our beta testers: a new model is ready to be tried. What we measured, and what we did not:"
    )
    ask = Text("Please test it, and tell us what you hear: real listeners are the evidence we lack most.")
    _draft(now, out / "announcement_draft.md", [Title("A new model to try", 1), hello, figures, ask])


def _offer(weights: Path, place: Path) -> None:
    """The same file under another name, where the disk can; else a copy, whole or not at all."""
    if not weights.is_file():
        return
    with files.draft(place) as draft:
        try:
            os.link(weights, draft)
        except OSError:
            shutil.copyfile(weights, draft)


def _closing(folder: Path, now: Standing) -> list[Block]:
    rows = [[text, status] for status, text in results.criteria(folder, now)]
    return [Title("Success criteria"), Table(["Criterion", "Status"], rows)]


def _failure(out: Path, now: Standing) -> None:
    assert now.verdict is not None
    seen, failed = now.verdict.measurements, now.verdict.rules_that("fails")
    rules = Table(["Rule", "Evidence"], [[rule.name, rule.explanation] for rule in failed])
    sound = Table(
        ["Rule", "Evidence"],
        [[rule.name, rule.explanation] for rule in now.verdict.rules if rule not in failed],
    )
    advice = [Text(line) for line in gate.recommended_actions(now.verdict)]
    unknown = Text(
        "Why: insufficient data, wrong tags, or the model's limits? The figures above can't tell; the authors must say."
    )
    _draft(
        now,
        out / "failure_analysis.md",
        [Title("Failure analysis", 1), Title("What failed"), rules, Title("What did not"), sound, unknown],
    )
    phase = [
        f"Timeline: {gate.PHASE_3['estimated_phase_3_timeline']}",
        f"Budget: {gate.PHASE_3['estimated_phase_3_cost']}",
        "Team: data labelers, expert panel",
    ]
    _draft(now, out / "phase_3_plan.md", [Title("Phase 3 escalation plan", 1), *advice, *map(Text, phase)])
    spent = Text(
        f"Spent so far: ${now.bill.usd:,.2f} of ${now.bill.budget_usd:,.2f}, over {now.bill.days:.1f} days."
    )
    hope = Text(
        f"Asked for: {gate.PHASE_3['estimated_phase_3_cost']}, for a full Amapiano data set (the playbook's estimate)."
    )
    _draft(now, out / "budget_request.md", [Title("Budget request for full training", 1), spent, hope])
    unspent = max(0.0, now.bill.budget_usd - now.bill.usd)
    learned = [
        f"Validation loss {number(seen.val_loss, '.3f')} beside {number(seen.base_loss, '.3f')} of the untuned model.",
        f"Authenticity {number(seen.authenticity, '.1%')}"
        + (f", interval {seen.interval[0]:.1%} .. {seen.interval[1]:.1%}." if seen.interval else "."),
        f"The gate was held at {now.fraction:.0%} of the training; ${unspent:,.2f} of the budget is unspent.",
    ]
    _draft(now, out / "lessons_learned.md", [Title("Lessons learned", 1), *map(Text, learned)])


def _entry(what: str, path: Path) -> JsonObject:
    if path.is_dir():
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        return {"what": what, "path": str(path), "there": size > 0, "bytes": size, "sha256": None}
    if not path.is_file() or not path.stat().st_size:
        return {"what": what, "path": str(path), "there": False, "bytes": 0, "sha256": None}
    size = path.stat().st_size
    return {"what": what, "path": str(path), "there": True, "bytes": size, "sha256": files.sha256(path)}


def rehearsed(now: Standing) -> list[Block]:
    """What stands below the title of all that a rehearsal leaves."""
    if now.speed == 1:
        return []
    return [
        Text(
            f"REHEARSAL: the clock ran {now.speed:g} times as fast. Days and dollars are made up, the rest is real."
        )
    ]


def _draft(now: Standing, path: Path, blocks: Sequence[Block]) -> None:
    """blocks: the first is the title."""
    whole = [*blocks[:1], *rehearsed(now), *blocks[1:]]
    files.write(path, "\n".join(documents.markdown(whole, path.parent)) + "\n")
