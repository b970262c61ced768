"""Whether the experiment itself is sound: who met which arm."""

import math
from collections.abc import Mapping

from headgate.core.guard.state import GuardState
from headgate.core.spec import RolloutSpec
from headgate.core.stats.sample_ratio import log_exposure, log_mismatch
from headgate.core.verdict import Outcome, Verdict
from headgate.core.wording import evidence, percent

AUDIT_ALPHA = 0.01
"""Chance that a sound split, or a sound set of keys, is ever called unsound."""
ESTIMATE = "estimated_accuracy"
ESTIMATE_ERRORS = 4.0
"""Standard errors that the estimate must lie beyond the margin; it is looked at every minute."""
TOLERATED_EXPOSURE = 0.01
"""Share of keys that may meet both arms (fallbacks aside): keys change hands when weights change."""


def audits(state: GuardState, spec: RolloutSpec) -> dict[str, Verdict]:
    """Whether the split gave each arm its share of the keys, and each key one arm only; and what confidences foretell.

    Both are looked at as often as one likes, each wrong in a step with the chance `AUDIT_ALPHA`, or alpha if that is
    less. A FAIL holds the rollout: what its arms show can't be compared.
    """
    clusters = state.clusters
    if clusters is None:
        return {}
    here, there = clusters.keys
    share = clusters.weight_percent / 100
    needed = -math.log(min(AUDIT_ALPHA, spec.evidence.alpha))
    found: dict[str, Verdict] = {}
    if 0 < share < 1:
        total = here + there
        seen = percent(here / total) if total else "none"
        found["sample_ratio"] = _audit(
            "sample_ratio",
            log_mismatch((here, there), share),
            needed,
            f"{seen} of {total:,} keys met the challenger, {percent(share)} were to",
            total,
        )
    distinct = here + there - clusters.both
    found["multiple_exposure"] = _audit(
        "multiple_exposure",
        log_exposure(clusters.both, distinct, TOLERATED_EXPOSURE),
        needed,
        f"{clusters.both:,} of {distinct:,} keys met both arms, {percent(TOLERATED_EXPOSURE)} may",
        distinct,
    )
    if clusters.estimate is not None and spec.policies.accuracy.enabled:
        found[ESTIMATE] = _estimated(clusters.estimate, spec.policies.accuracy.margin, here)
    return found


def _estimated(estimate: tuple[float, float, float], margin: float, samples: int) -> Verdict:
    """An early warning before the labels are there: it may hold, and it never shows that anything is well."""
    own, champions, error = estimate
    gap = champions - own
    worse = not gap - ESTIMATE_ERRORS * error <= margin
    sign = ">" if worse else "<="
    return Verdict(
        check=ESTIMATE,
        outcome=Outcome.FAIL if worse else Outcome.PASS,
        severity=1.0 if worse else 0.0,
        reason=f"estimated without labels, accuracy {own:.4f} vs {champions:.4f}: {gap:.4f} less, "
        f"{ESTIMATE_ERRORS:g} standard errors of {error:.4f} aside {sign} the margin {margin:g}",
        samples=samples,
        numbers={"challenger": own, "champion": champions, "standard_error": error},
        indicators=(ESTIMATE,) if worse else (),
    )


def _audit(name: str, log_e: float, needed: float, said: str, samples: int) -> Verdict:
    sound = log_e < needed
    sign = "<" if sound else ">="
    outcome = Outcome.PASS if sound else Outcome.FAIL
    if samples <= 0 or math.isnan(log_e):
        outcome = Outcome.INSUFFICIENT_DATA
    return Verdict(
        check=name,
        outcome=outcome,
        severity=1.0 if outcome is Outcome.FAIL else 0.0,
        reason=f"{said}: evidence {evidence(log_e)} {sign} {evidence(needed)}",
        samples=samples,
        numbers=_numbers(log_e, needed),
        indicators=(name,) if outcome is Outcome.FAIL else (),
    )


def _numbers(log_e: float, needed: float) -> Mapping[str, float | None]:
    return {"log_e": log_e if math.isfinite(log_e) else None, "log_e_needed": needed}
