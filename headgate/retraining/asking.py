"""Asks a person for leave, writes the answer down, and ends a retraining that somebody calls off."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from headgate.core.retraining import machine
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.effects import orchestrator_of
from headgate.errors import ConflictError, HeadgateError, NotFoundError
from headgate.retraining import working
from headgate.retraining.telling import tell

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
P = RetrainingPhase
APPROVAL_DEPLOYMENT = "approve_retraining/approve_retraining"
RETRAIN_DEPLOYMENT = "retrain_and_promote/retrain_and_promote"


def ask(services: "Services", one: Retraining) -> Retraining:
    """Have Prefect ask, once, and again where its run ended without an answer; without Prefect the CLI still answers."""
    consent = one.consent
    if consent is None or consent.decision is not None:
        return one
    try:
        orchestrator = orchestrator_of(services)
        ended = consent.flow_run_id or ""
        if consent.flow_run_id is not None:
            known = orchestrator.runs([consent.flow_run_id])
            if consent.flow_run_id in known and not known[consent.flow_run_id].ended:
                return one
        run = orchestrator.create_run(
            APPROVAL_DEPLOYMENT,
            {"retraining_id": one.id},
            idempotency_key=f"{one.id}:{consent.asked_at.isoformat()}:{ended}",
            name=f"approve retraining {one.id}",
            tags=(f"model:{one.model}", f"tenant:{one.tenant}", "approval"),
        )
    except HeadgateError as err:
        logger.warning("%s can be answered by the command line alone: %s", one.id, err)
        return one
    after = replace(one, consent=replace(consent, flow_run_id=run.id))
    try:
        return services.store.move_retraining(one, after, actor="headgate")
    except ConflictError as err:
        logger.info("%s was answered while it was asked: %s", one.id, err)
        return services.store.retraining(one.id)


def close(services: "Services", one: Retraining) -> None:
    """Cancel the run that asks, where it still waits; one that runs is just writing the answer."""
    if one.consent is None or one.consent.flow_run_id is None:
        return
    try:
        orchestrator_of(services).cancel(one.consent.flow_run_id, only_if="PAUSED")
    except HeadgateError as err:
        logger.info("the run that asks for %s stays until it runs out: %s", one.id, err)


def decide(
    services: "Services",
    retraining_id: str,
    decision: Literal["approve", "decline"],
    *,
    by: str,
    via: str,
    reason: str = "",
    now: datetime | None = None,
) -> Retraining:
    """Write a person's answer down; what is answered so already stays so.

    Raises:
        NotFoundError: no such retraining.
        IllegalVerbError: nobody is asked now.
        ConflictError: the request has run out, or somebody was quicker.
    """
    before = services.store.retraining(retraining_id)
    said = before.consent
    if said is not None and (said.decision, said.by) == (decision, by):
        return before
    after = machine.answer(before, decision, now or datetime.now(UTC), by=by, via=via, reason=reason)
    written = services.store.move_retraining(before, after, actor=by)
    if via != "prefect":
        close(services, before)
    tell(services, written)
    if not written.live:
        _clear(services, written)
    return written


def cancel(
    services: "Services", retraining_id: str, *, by: str, reason: str = "", now: datetime | None = None
) -> Retraining:
    """End a retraining whose version is not registered; a process that trains it ends within seconds.

    Raises:
        NotFoundError: no such retraining.
        IllegalVerbError: its version is registered: its rollout is what can be aborted.
        ConflictError: it moved meanwhile.
    """
    before = services.store.retraining(retraining_id)
    if before.phase is P.CANCELLED:
        return before
    after = machine.cancel(before, by, reason, now or datetime.now(UTC))
    written = services.store.move_retraining(before, after, actor=by)
    close(services, before)
    tell(services, written)
    _clear(services, written)
    return written


def _clear(services: "Services", one: Retraining) -> None:
    """Delete its rows and its candidate; where a process is at it, that one does once it has ended."""
    with services.store.retraining_lock(one.id) as free:
        if free:
            working.clear(services, one)


def find(services: "Services", name: str, tenant: str | None = None) -> Retraining:
    """A retraining by its id, or by its model's name: the live one, else the newest.

    Raises:
        NotFoundError: neither.
    """
    try:
        return services.store.retraining(name)
    except NotFoundError:
        found = services.store.retrainings(model=name, tenant=tenant, limit=100)
    if not found:
        raise NotFoundError("retraining or model", name, "`headgate retrainings` shows what there is")
    return next((one for one in found if one.live), found[0])


def start_run(services: "Services", one: Retraining) -> str | None:
    """Have Prefect carry the heavy steps out; the id of the run, None when Prefect is away.

    The same state gives the same run for an hour; after that, one that died is begun again.
    """
    hour = datetime.now(UTC).strftime("%Y%m%d%H")
    try:
        run = orchestrator_of(services).create_run(
            RETRAIN_DEPLOYMENT,
            {"model": one.model, "tenant": one.tenant, "retraining_id": one.id},
            idempotency_key=f"{one.id}:{one.revision}:{hour}",
            name=f"retrain {one.id}",
            tags=(f"model:{one.model}", f"tenant:{one.tenant}"),
        )
    except HeadgateError as err:
        logger.warning("%s waits for Prefect: %s", one.id, err)
        return None
    return run.id
