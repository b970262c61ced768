"""What a person, a flow or the REST API may ask of a rollout. One way in, whoever asks.

Every verb loads the rollout, lets the engine decide, commits with actor and reason, and carries out the effects at
once as far as they succeed; what does not stays in the outbox for the sweep.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from headgate.core import engine
from headgate.core.rollout import RegistryView, Rollout, StepResult, Verb
from headgate.core.spec import RolloutSpec
from headgate.effects import deliver, expecting, shown_by
from headgate.errors import BadRequestError, ConflictError, HeadgateError, NotFoundError

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
_LOOKING = (Verb.RESUME, Verb.UNDO, Verb.ROLLBACK, Verb.ABORT)
__all__ = ["act", "apply_spec", "decide_approval", "deliver", "find", "start"]


def start(
    services: "Services",
    spec: RolloutSpec,
    version: str | None = None,
    *,
    actor: str,
    reason: str = "",
) -> Rollout:
    """Start a challenger's rollout; asked twice, the same one comes back.

    Args:
        services: the connected parts.
        spec: how it is rolled out.
        version: the challenger; None = the version that holds the alias `challenger`.
        actor: who asks.
        reason: why, for the audit.

    Raises:
        NotFoundError: unknown model or version, or no version given and none has the alias.
        BadRequestError: the version has no signature, or is the champion, or the model has no champion.
        ConflictError: another rollout of the model is live.
    """
    view = services.registry.view(spec.model)
    challenger = version or view.challenger
    if challenger is None:
        hint = "give --version, or set the alias `challenger` on a version in MLflow"
        raise NotFoundError("challenger of model", spec.model, hint)
    services.registry.check_version(spec.model, challenger)
    live = services.store.live_for(spec.model, spec.tenant)
    if live is not None and live.challenger == challenger:
        return live
    others = (one for one in services.store.rollouts(model=spec.model) if one.phase.live)
    if (live := live or next(others, None)) is not None:
        raise _one_live_only(live)  # Of any tenant: the model's aliases are one and the same.
    if view.champion is None:
        raise BadRequestError(f"{spec.model}@champion", None, "be set to the version that serves now")
    if view.champion == challenger:
        raise BadRequestError("version", challenger, "not be the champion, which serves already")
    result = engine.start(
        spec,
        id=services.store.next_id(spec.model, challenger),
        challenger=challenger,
        champion=view.champion,
        actor=actor,
        now=datetime.now(UTC),
    )
    if reason:
        result = replace(result, ruling=replace(result.ruling, reason=f"{result.ruling.reason} ({reason})"))
    rollout = services.store.create(expecting(result, view), actor=actor)
    _deliver_what_can_be(services, rollout.id)
    return services.store.get(rollout.id)


def act(  # noqa: PLR0913 - one option per verb that has one
    services: "Services",
    rollout_id: str,
    verb: Verb,
    *,
    actor: str,
    reason: str = "",
    full: bool = False,
    adopt: bool | None = None,
    to_weight: float | None = None,
    to_version: str | None = None,
    via: str = "cli",
) -> Rollout:
    """Carry out a verb on a rollout; what is so already stays so and nothing is written.

    Args:
        services: the connected parts.
        rollout_id: the rollout.
        verb: what to do.
        actor: who asks. via: `cli`, `api`. reason: why, for the audit.
        full: with `PROMOTE`: waive every soak, not only this step's; checks, samples and approvals stay.
        adopt: with `RESUME` after a foreign change: True keeps what the registry shows, False puts ours back.
        to_weight: with `STEP_DOWN`: percent to go down to; None = half.
        to_version: with `UNDO`: the version to bring back instead of the old champion.

    Raises:
        NotFoundError: no such rollout, or `to_version` does not exist.
        IllegalVerbError: the phase does not allow it.
        ConflictError: somebody else changed the rollout twice meanwhile.
    """
    if verb in (Verb.APPROVE, Verb.REJECT):
        decision: Literal["approve", "reject"] = "approve" if verb is Verb.APPROVE else "reject"
        return decide_approval(services, rollout_id, decision, by=actor, via=via, reason=reason)
    if verb is Verb.RETRY:
        return _retry(services, rollout_id, actor=actor, reason=reason)
    first = services.store.get(rollout_id)
    if to_version is not None:
        _check_return(services, first, to_version)
    shown = _looked_at(services, first.model) if verb in _LOOKING else None

    def decide(rollout: Rollout) -> StepResult:
        result = engine.command(
            rollout,
            verb,
            datetime.now(UTC),
            actor=actor,
            reason=reason,
            full=full,
            adopt=adopt,
            registry=shown,
            to_weight=to_weight,
            to_version=to_version,
        )
        _refuse_second_life(services, rollout, result)
        return result

    detail = {"verb": verb.value, "via": via, "reason": reason, "adopt": adopt, "to_version": to_version}
    return _commit(services, rollout_id, decide, actor=actor, detail=detail)


def decide_approval(
    services: "Services",
    rollout_id: str,
    decision: Literal["approve", "reject"],
    *,
    by: str,
    via: str,
    reason: str = "",
    requested_at: datetime | None = None,
) -> Rollout:
    """Write a person's answer to an open approval.

    Args:
        services: the connected parts.
        rollout_id: the rollout.
        decision: the answer.
        by: who answered. via: `prefect`, `cli`, `api`. reason: why.
        requested_at: which request is answered; None = the one that is open.

    Raises:
        NotFoundError: no such rollout.
        IllegalVerbError: no approval is open.
        ConflictError: the request has run out, or somebody has answered it.
    """

    def decide(rollout: Rollout) -> StepResult:
        return engine.apply_approval(
            rollout,
            decision=decision,
            by=by,
            via=via,
            reason=reason,
            now=datetime.now(UTC),
            requested_at=requested_at,
        )

    detail = {"verb": decision, "via": via, "reason": reason}
    return _commit(services, rollout_id, decide, actor=by, detail=detail)


def apply_spec(services: "Services", spec: RolloutSpec, *, actor: str) -> None:
    """Register a spec, so that the alias `challenger` on any version of its model starts a rollout."""
    services.store.save_spec(spec, actor=actor)


def find(services: "Services", name: str) -> Rollout:
    """A rollout by its id, or by its model's name: the live one, else the newest.

    Raises:
        NotFoundError: neither.
    """
    try:
        return services.store.get(name)
    except NotFoundError:
        newest = services.store.rollouts(model=name, limit=1)
    if not newest:
        raise NotFoundError("rollout or model", name, "`headgate list` shows what there is")
    return next((one for one in services.store.rollouts(model=name) if one.phase.live), newest[0])


def history(services: "Services", rollout_id: str) -> Sequence[Any]:
    """The audit records of a rollout, oldest first."""
    return services.store.history(rollout_id)


def _commit(
    services: "Services",
    rollout_id: str,
    decide: Callable[[Rollout], StepResult],
    *,
    actor: str,
    detail: Mapping[str, object],
) -> Rollout:
    """Decide and write; when somebody else wrote meanwhile, decide once more on what stands now."""
    try:
        rollout = _decide_and_write(services, rollout_id, decide, actor, detail)
    except ConflictError:
        rollout = _decide_and_write(services, rollout_id, decide, actor, detail)
    _deliver_what_can_be(services, rollout_id)
    return rollout


def _decide_and_write(
    services: "Services",
    rollout_id: str,
    decide: Callable[[Rollout], StepResult],
    actor: str,
    detail: Mapping[str, object],
) -> Rollout:
    before = services.store.get(rollout_id)
    result = decide(before)
    if not result.changed:
        return before
    result = expecting(result, shown_by(before.target))
    return services.store.commit(before, result, actor=actor, detail=detail)


def _deliver_what_can_be(services: "Services", rollout_id: str) -> None:
    try:
        deliver(services, rollout_id)
    except HeadgateError as err:
        logger.warning("effects of %s wait for the next sweep: %s", rollout_id, err)


def _retry(services: "Services", rollout_id: str, *, actor: str, reason: str) -> Rollout:
    """A new rollout of the same version by the same spec, after one that ended without promotion."""
    ended = services.store.get(rollout_id)
    engine.command(ended, Verb.RETRY, datetime.now(UTC), actor=actor, reason=reason)
    return start(services, ended.spec, ended.challenger, actor=actor, reason=reason or f"retry of {ended.id}")


def _looked_at(services: "Services", model: str) -> RegistryView | None:
    """What the registry shows; None when it can't be read, which must not stop a rollback."""
    try:
        return services.registry.view(model)
    except HeadgateError as err:
        logger.warning("decided without a look at the registry: %s", err)
        return None


def _refuse_second_life(services: "Services", before: Rollout, result: StepResult) -> None:
    """An ended rollout may only come back to life while no other one of its model is live."""
    if before.phase.live or not result.rollout.phase.live:
        return
    live = services.store.live_for(before.model, before.tenant)
    if live is not None:
        raise _one_live_only(live)


def _check_return(services: "Services", rollout: Rollout, version: str) -> None:
    """Safety checks before a named version is brought back (RB-16)."""
    facts = services.registry.check_version(rollout.model, version)
    if str(facts.tags.get("status", "")).lower() == "deprecated":
        raise BadRequestError("to-version", version, "not be deprecated (its MLflow tag `status` says so)")


def _one_live_only(live: Rollout) -> ConflictError:
    hint = f"end it first: headgate abort {live.id}"
    return ConflictError(f"model {live.model}", "no live rollout", f"{live.id} ({live.phase.value})", hint)
