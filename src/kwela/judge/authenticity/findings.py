"""The record of one authenticity judgement, filled in step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwela import stats
from kwela.judge.authenticity import listening
from kwela.judge.authenticity.classifier import Evaluator, Judged
from kwela.stats import Interval


@dataclass
class Findings:
    """What was measured, filled in as far as the judgement came.

    shares: of reference and contrast (held out), samples and base; "fresh" is of contrast by thresholds that were
    fixed without the clip's fold, "low" and "high" of samples at the ends of the threshold's interval. judged: of the
    folders. difference: share of samples less base, by pair. needed: pairs that would do.
    """

    quick: bool = False
    seed: int = 0
    status: str = "measured"
    why: str = ""
    auc: Interval | None = None
    brier: Interval | None = None
    brier_constant: float | None = None
    threshold: Interval | None = None
    evaluator: Evaluator | None = None
    shares: dict[str, Interval] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    ablations: dict[str, Interval] = field(default_factory=dict)
    pairs: int | None = None
    difference: Interval | None = None
    p_value: float | None = None
    needed: int | None = None
    heard: listening.Heard | None = None

    @property
    def resamples(self) -> int:
        return 500 if self.quick else stats.RESAMPLES

    def refuse(self, why: str) -> Findings:
        self.status, self.why = "refused", why
        return self
