"""The form that Prefect shows where a retraining waits for a person."""

import logging
from typing import TYPE_CHECKING, Literal

from prefect.input import RunInput
from pydantic import Field

from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.effects import orchestrator_of
from headgate.errors import HeadgateError
from headgate.retraining.asking import decide, start_run
from headgate.retraining.telling import artifact_key, safeguard_table

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)


class RetrainingAnswer(RunInput):
    """The form. Nothing has a default that allows: an empty form is refused."""

    decision: Literal["approve", "decline"]
    approver: str = Field(min_length=1, description="Who decides")
    reason: str = Field(default="", description="Why")


class RetrainingRequest:
    """An open request: the form with its description, and how long it stays open."""

    __slots__ = ("form", "timeout_s")

    def __init__(self, description: str, timeout_s: int) -> None:
        self.form: type[RetrainingAnswer] = RetrainingAnswer.with_initial_data(description=description)
        self.timeout_s = timeout_s


def open_request(services: "Services", retraining_id: str) -> RetrainingRequest | None:
    """The request as a form; None when it was answered, or has run out."""
    one = services.store.retraining(retraining_id)
    consent = one.consent
    if one.phase is not RetrainingPhase.AWAITING_APPROVAL or consent is None:
        return None
    # Longer than ours: it is the record that runs out, and a form that fails would be asked anew.
    left = int((consent.expires_at - consent.asked_at).total_seconds()) + 3600
    return RetrainingRequest(_description(services, one), left)


def write_answer(services: "Services", retraining_id: str, answer: RetrainingAnswer) -> Retraining:
    """Write the answer and begin; one that comes too late changes nothing."""
    try:
        one = decide(
            services, retraining_id, answer.decision, by=answer.approver, via="prefect", reason=answer.reason
        )
    except HeadgateError as err:
        logger.warning("the answer of %s for %s changes nothing: %s", answer.approver, retraining_id, err)
        return services.store.retraining(retraining_id)
    if one.phase is RetrainingPhase.APPROVED:
        start_run(services, one)
    return one


def _description(services: "Services", one: Retraining) -> str:
    consent = one.consent
    until = consent.expires_at.strftime("%Y-%m-%d %H:%M UTC") if consent is not None else "-"
    pages = orchestrator_of(services).api_url.removesuffix("/api")
    story = f"[The whole story]({pages}/artifacts/key/{artifact_key(one)})"
    lines = [
        f"# Train `{one.model}` of `{one.tenant}` again?",
        "",
        f"{one.reason}. Open until {until}; without a yes nothing changes, and the champion serves on.",
        "",
        *safeguard_table(one.safeguards),
        "",
        f"{story}, or `headgate retrainings {one.id}`.",
    ]
    return "\n".join(lines)
