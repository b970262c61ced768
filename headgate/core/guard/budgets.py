"""How one error budget is spread over the checks: what each must reach before harm is confirmed."""

import math
from collections.abc import Mapping
from functools import lru_cache

from headgate.core.guard.gates import layout
from headgate.core.policies import Policies
from headgate.core.risk import WEIGHTS
from headgate.core.spec import EvidenceSpec
from headgate.core.verdict import Check


def sweep_alpha(evidence: EvidenceSpec) -> float:
    """What the sweeps' verdicts may spend of alpha; the rest is the gateway's event gate's."""
    return evidence.alpha * (1 - evidence.event_share)


@lru_cache(maxsize=256)
def shares(checks: tuple[Check, ...]) -> Mapping[Check, float]:
    """The documents' weights of these checks, renormalised to sum 1."""
    weights = {check: WEIGHTS[check.value] for check in checks}
    total = math.fsum(weights.values())
    return {check: weight / total for check, weight in weights.items()}


def log_e_needed(check: str, policies: Policies, evidence: EvidenceSpec) -> float:
    """Log evidence at which one check alone confirms harm: log(1 / (share * alpha)); inf for a disabled check."""
    share = shares(layout(policies).checks).get(Check(check), 0.0)
    return -math.log(share * sweep_alpha(evidence)) if share > 0 else math.inf
