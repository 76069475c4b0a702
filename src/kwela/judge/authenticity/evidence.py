"""Hold the record of one authenticity judgement, which is filled in step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwela import stats
from kwela.judge.authenticity.classifier import ClipScores, CrossValidatedClassifier
from kwela.judge.authenticity.listening import ListeningSummary
from kwela.stats import Interval


@dataclass
class Evidence:
    """What was measured, as far as the judgement came.

    shares: the share of clips that pass, of reference and contrast (held out), samples and base. "fresh" is
    of contrast by thresholds that were fixed without the clip's fold; "low" and "high" are of samples at the
    ends of the threshold's interval. scores: of each folder's clips. difference: share of samples less share
    of base, by pair. needed: how many pairs would do.
    """

    quick: bool = False
    seed: int = 0
    status: str = "measured"
    why: str = ""
    auc: Interval | None = None
    brier: Interval | None = None
    brier_constant: float | None = None
    threshold: Interval | None = None
    classifier: CrossValidatedClassifier | None = None
    shares: dict[str, Interval] = field(default_factory=dict)
    scores: dict[str, ClipScores] = field(default_factory=dict)
    ablations: dict[str, Interval] = field(default_factory=dict)
    pairs: int | None = None
    difference: Interval | None = None
    p_value: float | None = None
    needed: int | None = None
    listening: ListeningSummary | None = None

    @property
    def resamples(self) -> int:
        """How often a figure is resampled for its interval."""
        return 500 if self.quick else stats.RESAMPLES

    def refuse(self, why: str) -> Evidence:
        """Mark the judgement as refused, with the reason; return self."""
        self.status, self.why = "refused", why
        return self
