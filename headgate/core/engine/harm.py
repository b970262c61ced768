"""The harm budget: traffic is cut before it is spent, does not grow where it would be, and ends when it is."""

from collections.abc import Mapping
from datetime import timedelta

from headgate.core.engine.case import Case
from headgate.core.engine.retreat import rollback_by_rule, step_down
from headgate.core.engine.suspicion import may_step_down
from headgate.core.guard.budget import judge_budget
from headgate.core.rollout import Decision, Facts, Phase, StepResult
from headgate.core.verdict import Verdict

OPEN_END = timedelta(hours=1)
"""How long a step that waits for a person is taken to last."""


def spend_budget(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """Roll back when the harm budget is spent; cut the weight when the rest would not outlast the step.

    A cut at least halves the weight, so that there are few of them.
    """
    rollout = case.rollout
    if rollout.spec.harm_budget is None or rollout.base_phase not in (Phase.PROGRESSING, Phase.WATCHING):
        return None
    weight = rollout.served_percent
    since = rollout.effective_since or case.now
    elapsed_s, lasts_s = (case.now - since).total_seconds(), _lasts(case).total_seconds()
    judged = judge_budget(verdicts, rollout.spec, weight, elapsed_s, lasts_s)
    if judged is None:
        return None
    allowed, reason = judged
    if not allowed > 0:
        return rollback_by_rule(case, "harm_budget", reason, registry=facts.registry)
    if not may_step_down(case, facts):
        return None
    lower = min(allowed, rollout.weight_percent / 2)
    return step_down(case, lower, "harm_budget", f"{rollout.weight_percent:g} % -> {lower:.3g} %; {reason}")


def too_dear(case: Case, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """Hold where the next step, at today's rate of harm, would spend what is left of the budget."""
    rollout, spec = case.rollout, case.rollout.spec
    if spec.harm_budget is None or rollout.base_phase is not Phase.PROGRESSING:
        return None
    following = spec.ramp[rollout.step + 1 :]
    weight = min(following[0].set_weight if following else 100.0, 100.0 - spec.watch.holdback)
    lasts = (following[0].pause.duration or OPEN_END) if following else spec.watch.duration
    more = weight / rollout.served_percent
    judged = judge_budget(verdicts, spec, rollout.served_percent, 0.0, lasts.total_seconds() * more)
    if judged is None:
        return None
    case.stand()
    reason = f"{weight:g} % would cost too much: {judged[1]}"
    case.alert_while("harm_budget", "warning", reason)
    return case.rule(Decision.HOLD, reason, "harm_budget")


def _lasts(case: Case) -> timedelta:
    rollout, spec = case.rollout, case.rollout.spec
    if rollout.base_phase is Phase.WATCHING:
        return spec.watch.duration
    return spec.ramp[max(rollout.step, 0)].pause.duration or OPEN_END
