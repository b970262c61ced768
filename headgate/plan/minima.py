"""Samples below which a check gives no verdict, so that the rollout stands still."""

import math

from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check
from headgate.plan.stages import Stage
from headgate.plan.traffic import Traffic


def minima(stage: Stage, spec: RolloutSpec) -> list[tuple[str, str, int, bool]]:
    """Samples below which a check gives no verdict: check, its setting, how many, whether labelled ones."""
    policies = spec.policies
    asked = (
        (Check.LATENCY, "latency_sample_size_minimum", False),
        (Check.CONFIDENCE_DRIFT, "confidence_sample_size_minimum", False),
        (Check.ERROR_RATE, "error_sample_size_minimum", False),
        (Check.THROUGHPUT, "throughput_sample_size_minimum", False),
        (Check.ACCURACY, "accuracy_sample_size_minimum", True),
    )
    return [
        (check.value, key, getattr(getattr(policies, check.value), key), labelled)
        for check, key, labelled in asked
        if getattr(policies, check.value).enabled and not (stage.shadow and labelled)
    ]


def least_s(
    stage: Stage, spec: RolloutSpec, traffic: Traffic, before: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Seconds until the soak is over and all samples that are asked for are there; inf = they never are.

    Args:
        before: the challenger's requests and labels in earlier stages. A guarded check counts them where the step and
            the last 24 h hold too few, so it waits; a literal one does not, see `starved`.
    """
    wanted: list[tuple[float, bool]] = [(stage.min_samples, False), (stage.min_outcomes, True)]
    for _, _, least, labelled in minima(stage, spec):
        if gets(stage, spec, traffic, labelled=labelled) >= least:
            wanted.append((least, labelled))
        elif spec.decision == "guarded":
            wanted.append((max(0.0, least - before[labelled]), labelled))
    waits = [stage.soak_s or 0.0]
    for needed, labelled in wanted:
        pace = stage.pace(traffic, labelled=labelled)
        if needed:
            waits.append(needed / pace + labelled * traffic.label_delay_s if pace else math.inf)
    return max(waits)


def gets(stage: Stage, spec: RolloutSpec, traffic: Traffic, *, labelled: bool) -> float:
    """Samples within the time that the checks look back."""
    reach = spec.policies.reach.total_seconds() - (traffic.label_delay_s if labelled else 0.0)
    return stage.pace(traffic, labelled=labelled) * max(0.0, reach)


def starved(stage: Stage, spec: RolloutSpec, traffic: Traffic) -> list[str]:
    """Checks that never get the samples they ask for, and what to write instead."""
    if spec.decision == "guarded":
        return _unlabelled(stage, spec, traffic)
    found = []
    for check, key, needed, labelled in minima(stage, spec):
        counted = gets(stage, spec, traffic, labelled=labelled)
        if not counted >= needed:
            what = "labels" if labelled else "requests"
            fix = _fix(
                check,
                key,
                counted,
                late=labelled and traffic.label_delay_s >= spec.policies.reach.total_seconds(),
            )
            found.append(f"{check} asks for {needed:,} {what} within 24 h and gets {counted:,.0f}: {fix}")
    return found + _quiet(stage, spec, traffic)


def _unlabelled(stage: Stage, spec: RolloutSpec, traffic: Traffic) -> list[str]:
    """A guarded check takes its samples from the whole rollout: only one that gets none at all starves."""
    wants = any(labelled for *_, labelled in minima(stage, spec))
    if not wants or stage.pace(traffic, labelled=True) > 0:
        return []
    return ["accuracy asks for labels and gets none: send them, or set overrides.accuracy.enabled to false"]


def _fix(check: str, key: str, counted: float, *, late: bool) -> str:
    if late:
        return "labels must come sooner than that"
    return f"set overrides.{check}.{key} to {counted * 0.8:.0f}" if counted >= 25 else "raise the weight"


def _quiet(stage: Stage, spec: RolloutSpec, traffic: Traffic) -> list[str]:
    """Whether too few of the points in time that anomaly looks at have a request."""
    needed, analysis = spec.policies.anomaly.anomaly_points_minimum, spec.analysis
    pace = stage.pace(traffic, labelled=False)
    filled = analysis.points * -math.expm1(-pace * analysis.point.total_seconds())
    if not spec.policies.anomaly.enabled or filled >= needed:
        return []
    share = 1.25 * needed / analysis.points
    fix = "switch it off"
    if share < 1:
        minutes = math.ceil(-math.log1p(-share) / pace / 60)
        fix = f"set analysis.point to {minutes}m"
    return [
        f"anomaly asks for {needed} of {analysis.points} points with requests and gets {filled:.1f}: {fix}"
    ]
