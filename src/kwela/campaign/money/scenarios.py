"""The three cost scenarios of the playbook, by its own formula."""

from __future__ import annotations

from kwela.playbook import PlaybookConfig


def scenarios(settings: PlaybookConfig) -> dict[str, float]:
    """Return dollars by scenario: days x hours a day x price; setup is added only where the playbook adds it.

    With the playbook's own figures: 1,772 (56 days on demand, and setup), 437 (56 days of 20 spot hours) and
    273 (35 of them).
    """
    idle_day = settings.hours_per_day * settings.spot_cost_per_hour
    return {
        "optimistic": settings.setup_cost_usd + settings.plan_days * 24 * settings.gpu_cost_per_hour,
        "realistic": settings.plan_days * idle_day,
        "pessimistic": settings.week_5_threshold_days * idle_day,
        "optimistic_on_spot": settings.plan_days * 24 * settings.spot_cost_per_hour,
    }
