"""Find settings with which the gate could never say GO, before a dollar is spent."""

from __future__ import annotations

from collections.abc import Iterator

from kwela import stats
from kwela.playbook import PlaybookConfig


def gate_obstacles(settings: PlaybookConfig) -> Iterator[str]:
    """Yield each reason, with the key that it comes from."""
    yield from _samples(settings)
    yield from _clips(settings)
    limits = settings.go_nogo_thresholds
    if limits.max_cost_usd < settings.setup_cost_usd:
        yield (
            f"go_nogo_thresholds.max_cost_usd: {limits.max_cost_usd:g} is below setup_cost_usd "
            f"({settings.setup_cost_usd:g}): a NO-GO is certain"
        )
    if limits.min_gain_over_base >= limits.max_val_loss:
        yield (
            f"go_nogo_thresholds.min_gain_over_base: {limits.min_gain_over_base:g} nats are as much as the "
            f"whole loss that is allowed ({limits.max_val_loss:g}); fine-tuning gains about 0.1"
        )


def _samples(settings: PlaybookConfig) -> Iterator[str]:
    """Yield why so many clips can't prove what the gate asks for, even if every one of them is right."""
    from kwela.judge.authenticity.judge import ALPHA

    samples = settings.evaluation.samples
    best_p = 2.0 ** (1 - samples)  # of the two-sided sign-flip test: every pair differs in the same direction
    if best_p >= ALPHA:
        needed = next(n for n in range(1, 100) if 2.0 ** (1 - n) < ALPHA)
        yield (
            f"evaluation.samples: {samples} pairs can't reach p < {ALPHA:g} (at best {best_p:.2g}), and the "
            f"judge refuses: {needed} are the least, 82 tell 20 % from 40 %"
        )
    least = settings.go_nogo_thresholds.min_authenticity_score
    highest = stats.wilson(samples, samples).low
    if highest < least:
        yield (
            f"go_nogo_thresholds.min_authenticity_score: {least:g}: if all {samples} clips passed, the "
            f"interval's lower end would be {highest:.2f}: raise evaluation.samples"
        )


def _clips(settings: PlaybookConfig) -> Iterator[str]:
    """Yield what kwela generate audio would refuse."""
    from kwela.musicgen.config import MAX_SECONDS

    seconds = settings.evaluation.seconds
    if not 0 < seconds <= MAX_SECONDS:
        yield f"evaluation.seconds: {seconds:g}: kwela generate audio makes up to {MAX_SECONDS:g}"
    reference, contrast = settings.evaluation.reference_dir, settings.evaluation.contrast_dir
    if reference and contrast:
        real = sorted([reference.resolve(), contrast.resolve()], key=lambda path: len(path.parts))
        if real[1].is_relative_to(real[0]):
            yield "evaluation.contrast_dir: it and reference_dir hold the same clips; give it other music"
    for number, prompt in enumerate(settings.evaluation.prompts, 1):
        if trouble := _prompt_trouble(prompt):
            yield f"evaluation.prompts: number {number} {trouble}"


def _prompt_trouble(prompt: str) -> str:
    from kwela.musicgen.config import LONGEST_PROMPT

    if not prompt.strip():
        return "is empty: say in words what to play"
    if len(prompt) > LONGEST_PROMPT:
        return f"has {len(prompt):,} characters: {LONGEST_PROMPT:,} at most"
    return ""
