"""Carries a retraining on, phase by phase; killed at any line, the next call goes on and does nothing twice."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining import machine
from headgate.core.retraining.following import follow
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.errors import (
    ConflictError,
    HeadgateError,
    NotFoundError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from headgate.retraining import working
from headgate.retraining.asking import ask, close, start_run
from headgate.retraining.surroundings import look
from headgate.retraining.telling import tell

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
P = RetrainingPhase
ACTOR = "headgate"
HEAVY = frozenset({P.APPROVED, P.TRAINING, P.VALIDATING})
"""Phases whose step trains or validates: minutes to hours."""
LIGHT = frozenset(phase for phase in P if phase.live) - HEAVY
LOG_CHARS = 4_000
Clock = Callable[[], datetime]


def advance(
    services: "Services",
    retraining_id: str,
    now: datetime | None = None,
    *,
    phases: Collection[RetrainingPhase] | None = None,
) -> Retraining:
    """Carry one on as far as it goes now; where another process is at it, nothing is done.

    Args:
        services: the connected parts.
        retraining_id: which.
        now: the time that is judged by; None = the clock's, read anew at each step.
        phases: only steps out of these; None = all.

    Returns:
        The retraining as it stands afterwards; `said` tells what it waits for or how it ended.

    Raises:
        NotFoundError: no such retraining.
        StoreUnavailableError: PostgreSQL can't be reached; call again.
    """
    clock: Clock = (lambda: datetime.now(UTC)) if now is None else (lambda: now)
    store = services.store
    with store.retraining_lock(retraining_id) as mine:
        one = store.retraining(retraining_id)
        while mine and one.live and (phases is None or one.phase in phases):
            before = one
            one = _step(services, before, clock)
            tell(services, one)
            if one.phase is before.phase:
                break
        if not one.live:
            working.clear(services, one)
        if mine and one.phase is P.AWAITING_APPROVAL:
            one = ask(services, one)
    return one


def advance_all(services: "Services", now: datetime | None = None) -> list[Retraining]:
    """Carry every live retraining on; what has to be trained or validated is given to a run of its own.

    One that breaks does not hold back the others.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    found = []
    for known in services.store.live_retrainings():
        one = known
        try:
            one = advance(services, known.id, now, phases=LIGHT)
            if one.phase in HEAVY and _is_idle(services, one):
                start_run(services, one)
        except StoreUnavailableError:
            raise
        except Exception:  # What broke is that one's alone, and the next run tries again (MN-02).
            logger.exception("%s could not be carried on and stays as it is", known.id)
        found.append(one)
    return found


def _is_idle(services: "Services", one: Retraining) -> bool:
    with services.store.retraining_lock(one.id) as free:
        return free


def save(services: "Services", before: Retraining, after: Retraining, *, actor: str = ACTOR) -> Retraining:
    """Write a move; what is the same but for the safeguards' words is not written again.

    Raises:
        ConflictError: somebody else moved it meanwhile.
    """
    if replace(after, safeguards=before.safeguards) == before:
        return before
    return services.store.move_retraining(before, after, actor=actor)


def _step(services: "Services", one: Retraining, clock: Clock) -> Retraining:
    spec = services.store.monitoring_spec(one.tenant, one.model)
    try:
        if spec is None:
            said = f"{one.model} of {one.tenant} has no monitoring spec any more; {machine.SERVES}"
            return save(services, one, machine.move(one, P.CANCELLED, clock(), said))
        return _STEPS[one.phase](services, spec, one, clock)
    except ConflictError as err:
        logger.info("%s moved on meanwhile: %s", one.id, err)
        return services.store.retraining(one.id)


def _allow(services: "Services", spec: MonitoringSpec, one: Retraining, clock: Clock) -> Retraining:
    after = save(services, one, machine.allow(one, look(services, spec, clock(), one)))
    if one.phase is P.AWAITING_APPROVAL and after.phase is not one.phase:
        close(services, one)
    return after


def _train(services: "Services", spec: MonitoringSpec, one: Retraining, clock: Clock) -> Retraining:
    begun = save(services, one, machine.begin_training(one, look(services, spec, clock(), one)))
    if begun.phase is not P.TRAINING or begun.attempts == one.attempts:
        return begun
    try:
        facts = working.cut_and_train(services, spec, begun, clock())
    except HeadgateError as err:
        return _not_trained(services, spec, begun, err, clock)
    except Exception as err:
        logger.exception("training of %s broke", one.id)
        return save(services, begun, machine.failed(begun, f"training broke: {err!r:.300}", clock()))
    return save(services, begun, machine.trained(begun, facts, look(services, spec, clock(), begun)))


def _not_trained(
    services: "Services", spec: MonitoringSpec, one: Retraining, err: HeadgateError, clock: Clock
) -> Retraining:
    """Where training, or validating, ends without a result: who ended it, or what failed."""
    from headgate.training import TooFewLabelsError, TrainingCancelledError, TrainingFailedError

    if isinstance(err, ServiceUnavailableError):
        return save(services, one, replace(one, said=f"waits, and is begun again: {err}"))
    if isinstance(err, TooFewLabelsError):
        _, _, problem, advice = err.args
        said = f"too little clean data: {problem}; {machine.SERVES}; {advice}"
        return save(services, one, machine.move(one, P.REFUSED, clock(), said))
    if isinstance(err, TrainingCancelledError):
        current = services.store.retraining(one.id)
        stopped = machine.stand(current, look(services, spec, clock(), current)) if current.live else None
        return current if stopped is None else save(services, current, stopped)
    if isinstance(err, TrainingFailedError):
        kept = replace(one, training={**one.training, "log_tail": err.log_tail[-LOG_CHARS:]})
        words = next((line for line in reversed(err.log_tail.splitlines()) if line.strip()), "")
        last = f", its last words: {words.strip()[:200]}" if words else ""
        why = f"training failed: {err.problem}{last}; {err.args[1]}"
        return save(services, one, machine.failed(kept, why, clock(), err.traffic or machine.SERVES))
    return save(services, one, machine.failed(one, str(err), clock()))


def _validate_and_register(
    services: "Services", spec: MonitoringSpec, one: Retraining, clock: Clock
) -> Retraining:
    try:
        # Killed between the version and the record of it: its rollout may be under way by now.
        made = working.own_version(services, one) if one.validated else None
        if made is not None:
            return save(services, one, machine.registered(one, made, clock()))
        stopped = machine.stand(one, look(services, spec, clock(), one)) or machine.overdue(one, clock())
        if stopped is not None:
            return save(services, one, stopped)
        work = working.load_work(services, one)
        if work is None:
            return _train(services, spec, one, clock)  # Its files are on a machine that is gone.
        return _prove(services, spec, one, work, clock)
    except ConflictError:
        raise
    except HeadgateError as err:
        return _not_trained(services, spec, services.store.retraining(one.id), err, clock)
    except Exception as err:
        logger.exception("validating %s broke", one.id)
        current = services.store.retraining(one.id)
        return save(services, current, machine.failed(current, f"validating broke: {err!r:.300}", clock()))


def _prove(
    services: "Services", spec: MonitoringSpec, one: Retraining, work: working.Work, clock: Clock
) -> Retraining:
    champion = services.registry.view(one.model).champion
    if champion is None:
        raise NotFoundError("alias", f"{one.model}@champion", "set it in MLflow to the version that serves")
    validation = working.validate(services, spec, one, work, champion)
    findings = [finding.to_json() for finding in validation.findings]
    if validation.passed is not True and all(each["passed"] is True for each in findings):
        findings.append({"name": "validation", "passed": False, "sentence": "it did not pass as a whole"})
    seen = look(services, spec, clock(), one)
    judged = save(services, one, machine.validated(one, findings, champion, seen))
    if judged.phase is not P.VALIDATING:
        working.keep_refusal(services, spec, judged, work, validation)
        return judged
    ready = machine.may_register(judged, look(services, spec, clock(), judged))
    # Written before the version is made: a kill in between is told apart by it.
    ready = services.store.move_retraining(judged, ready, actor=ACTOR)
    if ready.phase is not P.VALIDATING or not ready.validated:
        return ready
    made = working.register(services, spec, ready, work, validation)
    # Nobody else holds it: it was offered before, and its rollout has ended or it serves.
    if made.is_challenger or made.held_by is None:
        kept = save(services, ready, machine.registered(ready, made.version, clock()))
        # The sweep looks for new challengers at once; without this it would with its next turn.
        services.store.notify("headgate_nudge", "")
        return kept
    said = f"version {made.version} is made, but version {made.held_by} holds the alias `challenger`; waits for its end"
    return save(services, ready, replace(ready, said=said))


def _follow(services: "Services", spec: MonitoringSpec, one: Retraining, clock: Clock) -> Retraining:  # noqa: ARG001
    holder = one.version
    if one.phase is P.REGISTERED:
        try:
            view = services.registry.view(one.model)
        except HeadgateError as err:
            logger.warning("who has the alias of %s can't be seen: %s", one.model, err)
        else:
            holder = one.version if view.champion == one.version else view.challenger
    rollouts = [
        each for each in services.store.rollouts(model=one.model, limit=50) if each.challenger == one.version
    ]
    return save(services, one, follow(one, rollouts, holder, clock()))


Step = Callable[["Services", MonitoringSpec, Retraining, Clock], Retraining]
_STEPS: Mapping[RetrainingPhase, Step] = {
    P.PROPOSED: _allow,
    P.AWAITING_APPROVAL: _allow,
    P.APPROVED: _train,
    P.TRAINING: _train,
    P.VALIDATING: _validate_and_register,
    P.REGISTERED: _follow,
    P.ROLLING_OUT: _follow,
    P.WATCHING: _follow,
}
