"""The form that Prefect shows for an approval, what it says, and writing the answer."""

import logging
from typing import TYPE_CHECKING, Literal

from prefect.input import RunInput
from pydantic import Field

from headgate import verbs
from headgate.core.rollout import Rollout
from headgate.effects import ask, orchestrator_of
from headgate.errors import HeadgateError, OrchestratorUnavailableError
from headgate.story import artifact_key, verdict_table

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)


class Answer(RunInput):
    """The form. Nothing has a default that approves: an empty form is refused."""

    decision: Literal["approve", "reject"]
    approver: str = Field(min_length=1, description="Who decides")
    reason: str = Field(default="", description="Why")


class Request:
    """An open request: the form with its description."""

    __slots__ = ("form",)

    def __init__(self, description: str) -> None:
        self.form: type[Answer] = Answer.with_initial_data(description=description)


def open_request(services: "Services", rollout_id: str, step: int) -> Request | None:
    """The request as a form; None when it was answered, or the rollout moved on."""
    rollout = services.store.get(rollout_id)
    if not _is_open(rollout, step):
        return None
    return Request(_description(services, rollout))


def write_answer(services: "Services", rollout_id: str, step: int, answer: Answer) -> str:
    """Write the answer and wake the sweep; an answer to a request that is no longer open changes nothing."""
    rollout = services.store.get(rollout_id)
    if not _is_open(rollout, step):
        logger.warning("the answer of %s for %s step %d came too late", answer.approver, rollout_id, step)
        return rollout.phase.value
    after = verbs.decide_approval(
        services, rollout_id, answer.decision, by=answer.approver, via="prefect", reason=answer.reason
    )
    return after.phase.value


def ask_again(services: "Services") -> int:
    """Start the approval's run anew where the last one ended without an answer; returns how many."""
    waiting = [
        one for one in services.store.live() if one.approval is not None and one.approval.decision is None
    ]
    asked = {}
    for rollout in waiting:
        last = services.store.approvals(rollout.id)[-1:]
        if last and last[0].flow_run_id:
            asked[last[0].flow_run_id] = rollout
    if not asked:
        return 0
    try:
        runs = orchestrator_of(services).runs(asked)
    except OrchestratorUnavailableError as err:
        logger.warning("approvals can't be looked at: %s", err)
        return 0
    ended = {run_id: rollout for run_id, rollout in asked.items() if run_id not in runs or runs[run_id].ended}
    return sum(_ask(services, rollout, run_id) for run_id, rollout in ended.items())


def _ask(services: "Services", rollout: Rollout, ended_run: str) -> bool:
    try:
        ask(services, rollout, after=ended_run)
    except HeadgateError as err:
        logger.warning("%s could not be asked again: %s", rollout.id, err)
        return False
    return True


def _is_open(rollout: Rollout, step: int) -> bool:
    approval = rollout.approval
    return rollout.phase.live and approval is not None and approval.step == step and approval.decision is None


def _description(services: "Services", rollout: Rollout) -> str:
    approval = rollout.approval
    until = approval.expires_at.strftime("%Y-%m-%d %H:%M UTC") if approval else "-"
    ramp = rollout.spec.ramp
    following = f"{ramp[rollout.step + 1].set_weight:g} %" if rollout.step + 1 < len(ramp) else "champion"
    pages = orchestrator_of(services).api_url.removesuffix("/api")
    asked = ramp[rollout.step].approval
    otherwise = asked.on_timeout if asked else "hold"
    story = f"[The whole story]({pages}/artifacts/key/{artifact_key(rollout.id)})"
    lines = [
        f"# Approve `{rollout.model}` version {rollout.challenger}: {rollout.weight_percent:g} % → {following}?",
        "",
        f"Rollout `{rollout.id}`, champion version {rollout.champion}; open until {until}, then: {otherwise}.",
        "",
        *verdict_table(services.store.verdicts(rollout.id)),
        "",
        f"{story}, or `headgate status {rollout.id}`.",
    ]
    return "\n".join(lines)
