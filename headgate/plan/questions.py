"""What a rollout must find out, and how many samples that takes at a stage's weight."""

import math
from dataclasses import dataclass

from scipy.optimize import minimize_scalar

from headgate.core.guard.budgets import log_e_needed
from headgate.core.guard.standing import SHADOW_SHARE
from headgate.core.spec import RolloutSpec
from headgate.core.stats import limits
from headgate.core.verdict import Check
from headgate.plan.stages import Stage
from headgate.plan.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Question:
    """One thing the rollout must find out about a rate of bad answers.

    Attributes:
        what: the bad answers. bad: the champion's rate of them, 0-1. margin: how much worse may be promoted.
        alpha: the check's part of the error budget. promote_alpha: chance to promote a challenger worse by the margin.
        labelled: only labelled answers count. differing: share of shadow pairs of which one is right, one wrong.
    """

    check: str
    what: str
    bad: float
    margin: float
    alpha: float
    promote_alpha: float
    labelled: bool
    differing: float

    def delay_s(self, traffic: Traffic) -> float:
        """Seconds from a prediction until it counts."""
        return traffic.label_delay_s if self.labelled else 0.0

    def harm_needs(self, stage: Stage, harm: float) -> float:
        """Challenger samples at this stage's weight until a harm of this size is confirmed; inf = never."""
        if self.bad + harm >= 1:
            return math.inf
        if stage.shadow and self.labelled:
            differing = max(self.differing, harm)
            alpha = SHADOW_SHARE * self.alpha
            return limits.expected_paired((differing - harm) / 2, (differing + harm) / 2, alpha)
        return limits.expected_requests(self.bad, self.bad + harm, stage.versus, self.alpha)

    def promotion_needs(self, stage: Stage) -> float:
        """Challenger samples until "not worse by more than the margin" is shown of one that is as good; inf = never."""
        if stage.shadow and self.labelled:
            return pairs_not_worse(self.margin, self.differing, self.promote_alpha)
        if stage.versus >= 100:
            return math.inf
        return limits.expected_not_worse(self.bad, self.margin, stage.versus, self.promote_alpha)


def check_alpha(spec: RolloutSpec, check: str) -> float:
    """A check's part of the error budget: its weight among the enabled checks times what the sweeps may spend."""
    return math.exp(-log_e_needed(check, spec.policies, spec.evidence))


def questions(spec: RolloutSpec, traffic: Traffic) -> tuple[Question, ...]:
    """What the enabled checks must find out, as far as a rate of bad answers tells it."""
    policies = spec.policies
    asked = (
        (Check.ACCURACY, "wrong answers", 1 - traffic.accuracy, policies.accuracy, True),
        (Check.ERROR_RATE, "failed requests", traffic.error_rate, policies.error_rate, False),
    )
    return tuple(
        Question(
            check=check.value,
            what=what,
            bad=bad,
            margin=policy.margin,
            alpha=check_alpha(spec, check.value),
            promote_alpha=spec.evidence.promote_alpha,
            labelled=labelled,
            differing=1 - traffic.agreement,
        )
        for check, what, bad, policy, labelled in asked
        if policy.enabled
    )


def pairs_not_worse(margin: float, differing: float, alpha: float) -> float:
    """Mean labelled pairs until a challenger that is as good is shown not to be worse by the margin.

    The best constant bet against "loses more pairs than it wins, by the margin or more" grows by this much a pair.

    Args:
        margin: points, 0-1. differing: share of pairs of which one answer is right and one wrong. alpha: in (0, 1).

    References:
        Waudby-Smith & Ramdas 2024, JRSS B 86 (1), section 4; the overhead is measured, see `limits`.

    >>> round(pairs_not_worse(0.02, 0.05, 0.05), -2)
    1100.0
    """

    def loss(stake: float) -> float:
        won, lost = math.log1p(stake * (1 + margin)), math.log1p(-stake * (1 - margin))
        return -(differing / 2 * (won + lost) + (1 - differing) * math.log1p(stake * margin))

    best = minimize_scalar(loss, bounds=(0.0, (1 - 1e-9) / (1 - margin)), method="bounded")
    return limits.PAIRED_OVERHEAD * math.log(1 / alpha) / max(-float(best.fun), 1e-300)
