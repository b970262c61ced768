"""What a ramp must be so that it limits the damage a bad version can do (RP-05, RP-06)."""

from collections.abc import Sequence

from headgate.core.problems import Problem

FULL = 100.0


def ramp_problems(
    weights: Sequence[float | None], max_first_weight: float, max_weight_increase: float
) -> list[Problem]:
    """Everything that is wrong with the weights of a ramp, in its order.

    Args:
        weights: percent per step; None = can't be read, which somebody else reports.
        max_first_weight: the most that the first users may be, in percent.
        max_weight_increase: the most that one step may add, in percentage points.
    """
    if not weights:
        return [
            Problem(("steps",), "is empty", "write at least one step, or leave steps out for the named plan")
        ]
    found: list[Problem] = []
    first, last = weights[0], weights[-1]
    if first is not None and not first <= max_first_weight:
        fix = "start smaller, or raise maxFirstWeight on purpose"
        found.append(_at(0, f"first weight {first:g} > maxFirstWeight {max_first_weight:g}", fix))
    for index in range(1, len(weights)):
        before, weight = weights[index - 1], weights[index]
        if before is None or weight is None:
            continue
        if not weight > before:
            found.append(
                _at(index, f"weight {weight:g} does not grow after {before:g}", "order the steps upward")
            )
        elif not weight - before <= max_weight_increase:
            problem = f"increase {before:g} -> {weight:g} is {weight - before:g} > maxWeightIncrease {max_weight_increase:g}"
            found.append(_at(index, problem, "add a step between, or raise maxWeightIncrease on purpose"))
    if last is not None and last != FULL:
        fix = "add a last step with setWeight: 100, which promotion follows"
        found.append(_at(len(weights) - 1, f"last weight is {last:g}, must be 100", fix))
    return found


def agreement_problems(min_agreement: float, warn_agreement: float) -> list[Problem]:
    """A warning that comes after the failure is none."""
    if warn_agreement >= min_agreement:
        return []
    problem = f"warnAgreement {warn_agreement:g} < minAgreement {min_agreement:g}"
    return [Problem(("shadow", "warnAgreement"), problem, "write a value at or above minAgreement")]


def _at(index: int, problem: str, fix: str) -> Problem:
    return Problem(("steps", index, "setWeight"), problem, fix)
