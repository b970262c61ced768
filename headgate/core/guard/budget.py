"""The harm budget: how many bad answers a rollout has cost beyond the champion's, and what weight the rest allows."""

import math
from collections.abc import Mapping

from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check, Standing, Verdict
from headgate.core.wording import about, duration

COSTLY = (Check.ERROR_RATE.value, Check.ACCURACY.value)
"""What a bad answer is: a failed request, or a wrong one."""
_SIGMAS = 2.0
_ALPHA = 0.01
_TUNED_FOR = 100.0
"""Bad answers at which the boundary of proof is tightest."""
_LEAST_LEFT = 0.05


def extra_bad(verdicts: Mapping[str, Verdict]) -> float:
    """Bad answers more than the champion would have given to the same users so far, never below 0.

    Two standard errors are taken off: over much traffic chance alone makes a difference of many answers.

    Args:
        verdicts: check -> verdict, guarded or with a guarded one beside it.
    """
    total, variance = _spent(verdicts)
    return _at_least(total, _SIGMAS * math.sqrt(variance))


def proven_extra_bad(verdicts: Mapping[str, Verdict]) -> float:
    """The same, with so much taken off that a challenger no worse than its champion is ever charged once in 200 times.

    References:
        Robbins 1970, Annals of Mathematical Statistics 41 (5), p. 1397-1409 (normal mixture boundary).
    """
    total, variance = _spent(verdicts)
    scaled = variance + _TUNED_FOR
    return _at_least(total, math.sqrt(scaled * math.log(scaled / (_TUNED_FOR * _ALPHA**2))))


def _spent(verdicts: Mapping[str, Verdict]) -> tuple[float, float]:
    """Extra bad answers, and the variance of that number."""
    found = [one for name in COSTLY if (one := _standing(verdicts.get(name))) is not None]
    variance = math.fsum((one.challenger or 0.0) * one.n_challenger * one.deff for one in found)
    return math.fsum(one.extra_bad for one in found), variance


def _at_least(total: float, noise: float) -> float:
    # NaN is no number of answers: it must not look like none.
    return math.inf if math.isnan(total - noise) else max(0.0, total - noise)


def weight_allowed(remaining: float, rate_per_s: float, left_s: float, weight_percent: float) -> float:
    """The weight at which what remains of the budget outlasts the step, at most the weight now.

    Args:
        remaining: bad answers that may still be spent. rate_per_s: extra bad answers per second at the weight now.
        left_s: seconds until the step ends. weight_percent: 0-100.
    """
    if not remaining > 0:
        return 0.0
    spent = rate_per_s * left_s
    return weight_percent if spent <= remaining else weight_percent * remaining / spent


def judge_budget(
    verdicts: Mapping[str, Verdict], spec: RolloutSpec, weight_percent: float, elapsed_s: float, step_s: float
) -> tuple[float, str] | None:
    """The weight that the harm budget still allows, and why; None when it allows the weight as it is.

    It allows nothing only where the budget is proven to be spent. Where it probably is, it allows what a twentieth of it
    pays for.

    Args:
        verdicts: check -> verdict. spec: of the rollout.
        weight_percent: the challenger's share now, 0-100.
        elapsed_s: seconds since the step took effect. step_s: how long it lasts; 0 or less = open end, then an hour more.
    """
    if spec.harm_budget is None or weight_percent <= 0:
        return None
    budget, spent = spec.harm_budget.extra_bad, extra_bad(verdicts)
    if proven_extra_bad(verdicts) >= budget:
        return 0.0, f"harm budget: {about(spent)} extra bad answers >= {budget:g}, it is spent"
    rate = _rate_per_s(verdicts, spent, elapsed_s)
    left_s = max(step_s - elapsed_s, 0.0) if step_s > 0 else 3600.0
    left = max(budget - spent, _LEAST_LEFT * budget)
    allowed = weight_allowed(left, rate, left_s, weight_percent)
    if allowed >= weight_percent:
        return None
    lasts = duration(left / rate)
    return (
        allowed,
        f"harm budget: {about(spent)} of {budget:g} extra bad answers are spent, the rest would last {lasts}",
    )


def _rate_per_s(verdicts: Mapping[str, Verdict], spent: float, elapsed_s: float) -> float:
    """Extra bad answers per second: those per request so far, times the requests per second now."""
    verdict = verdicts.get(COSTLY[0])
    standing = _standing(verdict)
    if verdict is None or standing is None or standing.n_challenger <= 0:
        return spent / elapsed_s if elapsed_s > 0 else 0.0
    seconds = verdict.window_s or elapsed_s
    requests = verdict.samples / seconds if seconds > 0 else 0.0
    return spent / standing.n_challenger * requests


def _standing(verdict: Verdict | None) -> Standing | None:
    if verdict is None:
        return None
    return verdict.standing or (verdict.guarded.standing if verdict.guarded is not None else None)
