"""Both decision modes side by side: the one that decides, with what the other one says inside."""

from dataclasses import replace
from typing import Literal

from headgate.core.guard.verdicts import guarded
from headgate.core.policies import Policies
from headgate.core.verdict import Outcome, Standing, Verdict


def beside(
    decision: Literal["guarded", "literal"],
    check: str,
    literal: Verdict,
    standing: Standing | None,
    policies: Policies,
) -> Verdict:
    """The verdict of the mode that decides.

    Args:
        decision: the spec's. check: its name. literal: what the documents' rule says.
        standing: the sequential evidence; None = it could not be read, so a guarded verdict holds.
        policies: the limits.
    """
    if standing is None:
        if decision == "literal" or literal.outcome is Outcome.ERROR:
            return literal
        reason = f"nothing is compared with the champion yet; {literal.reason}"
        return replace(
            literal,
            outcome=Outcome.INSUFFICIENT_DATA,
            severity=0.0,
            reason=reason,
            actions=(),
            literal=literal,
        )
    confirmed = guarded(check, literal, standing, policies)
    if decision == "guarded":
        return confirmed
    return replace(literal, standing=standing, guarded=replace(confirmed, standing=None, literal=None))
