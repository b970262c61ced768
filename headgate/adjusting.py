"""Limits that what was measured speaks against, each with the value it speaks for (S0:581). Nothing changes by itself."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check
from headgate.core.wording import evidence

Json = Mapping[str, Any]


def adjustments(spec: RolloutSpec, verdicts: Sequence[Json], cause: Json) -> list[dict[str, Any]]:
    """Settings that the numbers speak against, each with the value they speak for."""
    found = list[dict[str, Any]]()
    if cause["confirmed"] is False and spec.decision == "literal":
        why = f"evidence {evidence(math.log(max(cause['evidence'] or 1.0, 1e-9)))} did not confirm the breach"
        found.append(_change("decision", "literal", "guarded", why))
    weight = cause["weight_percent"]
    if cause["confirmed"] and weight > 25 and spec.evidence.required_above > 25:
        why = f"the harm was confirmed only at {weight:g} %"
        found.append(_change("evidence.requiredAbove", spec.evidence.required_above, 25, why))
    for one in verdicts:
        standing = one.get("standing") or (one.get("guarded") or {}).get("standing") or {}
        champion = standing.get("champion")
        if champion is not None:
            found += limit_suggestions(str(one.get("check")), spec, [float(champion)])
    return found


def limit_suggestions(check: str, spec: RolloutSpec, champions: Sequence[float]) -> list[dict[str, Any]]:
    """Documents' limits that the champion itself nearly breaks, or that no champion comes near (LN-04).

    Args:
        check: the check. spec: the limits in force. champions: rates of bad answers of champions beside rollouts, 0-1.
    """
    policies = spec.policies
    if not champions:
        return []
    worst = max(champions)
    if check == Check.ACCURACY:
        accuracy, policy = 1 - worst, policies.accuracy
        suggested = math.floor(1000 * (accuracy - 2 * policy.margin)) / 1000
        if accuracy - policy.accuracy_threshold < policy.margin and 0 < suggested < policy.accuracy_threshold:
            why = f"the champion's own accuracy was {accuracy:.4f}, within a margin of the limit"
            return [
                _change("overrides.accuracy.accuracy_threshold", policy.accuracy_threshold, suggested, why)
            ]
    if check == Check.ERROR_RATE:
        rate, limits = worst, policies.error_rate
        suggested = math.ceil(1000 * (rate + 2 * limits.margin)) / 1000
        if limits.error_rate_threshold - rate < limits.margin and suggested > limits.error_rate_threshold:
            why = f"the champion's own error rate was {rate:.4f}, within a margin of the limit"
            return [
                _change(
                    "overrides.error_rate.error_rate_threshold", limits.error_rate_threshold, suggested, why
                )
            ]
    return []


def _change(setting: str, now: Any, suggested: Any, why: str) -> dict[str, Any]:
    return {"setting": setting, "now": now, "suggested": suggested, "why": why}
