"""Slices of the traffic, each with tests of its own: one that fails while the total looks fine is named."""

from collections.abc import Mapping

from headgate.core.guard.advance import with_gates
from headgate.core.guard.gates import layout
from headgate.core.guard.standing import standings
from headgate.core.guard.state import GuardState
from headgate.core.guard.verdicts import harm_limit
from headgate.core.policies import Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.stats.multiplicity import e_bh
from headgate.core.verdict import Check, Outcome, Standing, Verdict
from headgate.core.wording import evidence as evidence_text
from headgate.core.wording import percent, points

PREFIX = "segment:"
SLICED = (Check.ACCURACY, Check.LATENCY, Check.ERROR_RATE)
"""What can go wrong for some users only, and hurts them. A slice has vectors for these checks and no others."""


def slice_policies(policies: Policies) -> Policies:
    """The policies by which a slice's state is advanced: of the rollout's checks, those that slices have."""
    others = {check.value for check in Check if check not in SLICED}
    changes = {name: getattr(policies, name).model_copy(update={"enabled": False}) for name in others}
    return policies.model_copy(update=changes)


def judge_segments(
    states: Mapping[str, GuardState], policies: Policies, evidence: EvidenceSpec
) -> dict[str, Verdict]:
    """The verdict of every slice: FAIL where harm is proven and beyond the check's margin, WARN where it is within.

    All slices and their checks are judged together by e-BH: of what is called worse, at most the share alpha is not,
    however many slices there are and however they overlap.

    Args:
        states: `column=value` -> the slice's state, advanced under `slice_policies` (more gates do no harm); '' (the
            whole rollout) is left out.
        policies: the rollout's. evidence: its error budget.

    Returns:
        `segment:column=value` -> verdict.
    """
    names = sorted(name for name in states if name)
    sliced = slice_policies(policies)
    kept = [with_gates(states[name], layout(sliced)) for name in names]
    found = standings(kept, [sliced] * len(names), [evidence] * len(names))
    tested = [(row, check) for row, one in enumerate(found) for check in one]
    rejected = e_bh([found[row][check].log_e for row, check in tested], evidence.alpha)
    worse: dict[int, list[str]] = {}
    for (row, check), proven in zip(tested, rejected, strict=True):
        if proven:
            worse.setdefault(row, []).append(check)
    return {
        PREFIX + name: _verdict(PREFIX + name, found[row], worse.get(row, []), policies)
        for row, name in enumerate(names)
    }


def _verdict(name: str, found: Mapping[str, Standing], worse: list[str], policies: Policies) -> Verdict:
    samples = max((one.n_challenger for one in found.values()), default=0)
    if not samples:
        return Verdict(
            name, Outcome.INSUFFICIENT_DATA, 0.0, "the challenger has answered nothing in this slice"
        )
    harmful = [check for check in worse if _beyond(check, found[check], policies)]
    told = harmful or worse
    top = max(told or found, key=lambda check: found[check].log_e)
    reason = (
        "; ".join(_said(check, found[check]) for check in told)
        if told
        else f"not worse by evidence: {top} {evidence_text(found[top].log_e)}"
    )
    outcome = Outcome.FAIL if harmful else Outcome.WARN if worse else Outcome.PASS
    return Verdict(
        check=name,
        outcome=outcome,
        severity=1.0 if worse else 0.0,
        reason=reason,
        samples=samples,
        numbers={f"{check}_difference": one.difference for check, one in found.items()},
        indicators=tuple(harmful),
        standing=found[top],
    )


def _beyond(check: str, standing: Standing, policies: Policies) -> bool:
    limit = harm_limit(Check(check), standing, policies)
    return limit is None or standing.difference is None or not standing.difference <= limit


def _said(check: str, standing: Standing) -> str:
    rates = ""
    if standing.challenger is not None and standing.champion is not None:
        rates = f" {percent(standing.challenger)} bad vs {percent(standing.champion)}"
    more = f", {points(standing.difference)} more" if standing.difference is not None else ""
    return f"{check}{rates}{more}, evidence {evidence_text(standing.log_e)}"
