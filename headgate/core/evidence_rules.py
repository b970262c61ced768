"""What a spec's evidence, hold-back, slices and margins must be so that what they ask for can be had."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Literal

from headgate.core.checks.throughput import CRITICAL_SERVED
from headgate.core.policies import Policies
from headgate.core.problems import Path, Problem
from headgate.core.ramp import FULL

REQUIRED_ABOVE = 50.0
"""Percent of traffic above which a challenger must have shown that it is not worse, unless the spec says otherwise."""
Mode = Literal["guarded", "literal"]


def evidence_problems(
    weights: Sequence[float | None], mode: Mode, required_above: float, holdback: float, watch: timedelta
) -> list[Problem]:
    """Where somebody to compare with, or the evidence asked for, could not be there.

    Args:
        weights: percent per step; None = can't be read, which somebody else reports.
        mode: who decides. required_above: percent above which not being worse must be shown.
        holdback: percent that stay with the old champion. watch: how long a new champion is watched.
    """
    found: list[Problem] = []
    known = [weight for weight in weights if weight is not None]
    # A wide first step that maxFirstWeight allows is meant; one above a limit that was lowered is an oversight.
    if mode == "guarded" and known and required_above < min(known[0], REQUIRED_ABOVE):
        problem = f"requiredAbove {required_above:g} < first weight {known[0]:g}, where nobody has shown anything yet"
        found.append(
            Problem(("evidence", "requiredAbove"), problem, f"write at least {known[0]:g}, or start smaller")
        )
    if mode == "guarded" and holdback == 0 and watch > timedelta():
        problem = "is 0, so a guarded watch has nothing to compare the new champion with"
        fix = "write at least 1, or watch.duration: 0s, or decision: literal"
        found.append(Problem(("watch", "holdback"), problem, fix))
    if len(known) > 1 and not known[-2] < FULL - holdback:
        problem = f"holdback {holdback:g} leaves the last step {FULL - holdback:g} %, no more than the {known[-2]:g} % before it"
        found.append(Problem(("watch", "holdback"), problem, f"write less than {FULL - known[-2]:g}"))
    return found


def segment_problems(columns: Sequence[object], on_segment: object) -> list[Problem]:
    """Slices that are asked for twice, or acted upon without being named."""
    at: Path = ("segments", "columns")
    twice = sorted({str(one) for one in columns if columns.count(one) > 1})
    found = [Problem(at, f"{', '.join(twice)} stands twice", "keep one of each")] if twice else []
    if on_segment == "rollback" and not columns:
        problem = "is 'rollback', but no column is named"
        found.append(
            Problem(("segments", "onSegment"), problem, "write segments.columns, or leave onSegment out")
        )
    return found


def margin_problems(policies: Policies) -> list[Problem]:
    """A margin so wide that it would promote what the same check calls critical."""
    return [
        Problem(
            ("overrides", check, "margin"), f"margin {margin:g} > {worst:g}, {what}", "write a smaller margin"
        )
        for check, margin, worst, what in _margins(policies)
        if margin is not None and not margin <= worst
    ]


def _margins(policies: Policies) -> Iterable[tuple[str, float | None, float, str]]:
    slow, errors, drift = policies.latency, policies.error_rate, policies.confidence_drift
    beyond = slow.critical_ratio * (1 + slow.latency_increase_ratio) - 1
    yield (
        "accuracy",
        policies.accuracy.margin,
        policies.accuracy.accuracy_threshold,
        "the accuracy that is asked for",
    )
    yield "latency", slow.margin, beyond, "where the check is critical"
    yield "confidence_drift", drift.margin, drift.critical_effect, "where the check is critical"
    worst = min(1.0, errors.critical_ratio * errors.error_rate_threshold)
    yield "error_rate", errors.margin, worst, "where the check is critical"
    hits = policies.cache_performance
    yield "cache_performance", hits.margin, hits.cache_hit_threshold, "the hit rate that is asked for"
    yield "throughput", policies.throughput.margin, 1 - CRITICAL_SERVED, "where the check is critical"
