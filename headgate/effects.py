"""Carries out what transitions ask to be done outside: registry, approvals, evidence, alerts.

Every effect stands in the outbox until it is done, and may be carried out twice: after a crash nobody knows whether
the first attempt got through. So each is written to change nothing the second time.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.core.engine.actions import SAMPLES_KIND
from headgate.core.rollout import Effect, EffectKind, Phase, RegistryTarget, RegistryView, Rollout, StepResult
from headgate.core.routing.split import decode_split, encode_split
from headgate.errors import (
    ArtifactsUnavailableError,
    ConflictError,
    HeadgateError,
    NotFoundError,
    ServiceUnavailableError,
)
from headgate.evidence import ROLLBACK_KIND, check_evidence, rollback_evidence, samples
from headgate.exporting import export_evidence
from headgate.hooks import send_hook
from headgate.learning import learn
from headgate.orchestrator import Orchestrator
from headgate.store.audit import AuditRecord

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
SAMPLES = 20
"""Predictions kept in a rollback's evidence for a person to look at (RK1-10)."""
SLICES = 100
EXPORTS_AT_ONCE = 50
EXPORT_BUDGET_S = 1.0
"""Evidence copied to the artifact store behind one delivery; housekeeping copies what is left."""
_ALIASES = ("champion", "challenger", "shadow", "holdback")
APPROVAL_DEPLOYMENT = "request_approval/request_approval"


def expecting(result: StepResult, view: RegistryView) -> StepResult:
    """Write into each registry effect what the registry shows before it, so that a foreign change is noticed."""
    shown = {name: getattr(view, name) for name in _ALIASES} | {"split": _encoded(view)}
    effects = tuple(
        replace(effect, detail={"expected": shown, **effect.detail})
        if effect.kind is EffectKind.SYNC_REGISTRY
        else effect
        for effect in result.effects
    )
    return replace(result, effects=effects)


def shown_by(target: RegistryTarget) -> RegistryView:
    """The view of a registry that shows the target."""
    return RegistryView(
        target.champion, target.challenger, target.shadow, target.split, holdback=target.holdback
    )


def deliver(services: "Services", rollout_id: str | None = None) -> int:
    """Carry out what is due in the outbox; what fails stays there and is tried again.

    Args:
        services: the connected parts.
        rollout_id: only this rollout's effects; None = everybody's.

    Returns:
        Number of effects carried out.

    Raises:
        StoreUnavailableError: the outbox can't be read.
    """
    store, done = services.store, 0
    away = set[EffectKind]()
    # Traffic first: a slow receiver of events must not stand before a cut.
    for item in sorted(
        store.pending_effects(rollout_id), key=lambda item: item.effect.kind is EffectKind.HOOK
    ):
        if item.effect.kind in away:
            continue  # Its service does not answer; waiting for it once is enough, the judging waits behind this.
        try:
            _HANDLERS[item.effect.kind](services, store.get(item.rollout_id), item.effect)
        except HeadgateError as err:
            logger.warning("%s of %s failed, will be tried again: %s", item.effect.kind, item.rollout_id, err)
            store.effect_failed(item.id, str(err))
            if isinstance(err, ServiceUnavailableError):
                away.add(item.effect.kind)
        except Exception as err:  # One that breaks must not hold back the others, nor the sweep (MN-02).
            logger.exception("%s of %s broke, will be tried again", item.effect.kind, item.rollout_id)
            store.effect_failed(item.id, repr(err))
        else:
            store.effect_done(item.id)
            done += 1
    if rollout_id is None:
        _export_some(services)
    return done


def _export_some(services: "Services") -> None:
    """After everything else, and never for long: the judging waits behind this.

    A place that was found away is not asked here again, its time-outs take longer than a cut may; `maintain_store` does.
    """
    try:
        if services.artifacts.is_away:
            return
        export_evidence(services, limit=EXPORTS_AT_ONCE, budget_s=EXPORT_BUDGET_S)
    except ArtifactsUnavailableError as err:
        logger.debug("evidence waits in PostgreSQL: %s", err)  # Told once, when the place was found away.
    except Exception:  # As above: nothing of this may hold back the sweep.
        logger.exception("evidence could not be copied to the artifact store, it is tried again")


def _sync_registry(services: "Services", rollout: Rollout, effect: Effect) -> None:
    detail = effect.detail
    expected = None if detail.get("force") else _view(detail.get("expected"))
    while True:
        if not rollout.phase.live and services.store.live_for(rollout.model, rollout.tenant) is not None:
            return  # A newer rollout owns the registry now.
        try:
            services.write_registry(rollout.model, rollout.target, expected=expected)
        except ConflictError as conflict:
            _settle(services, rollout, conflict)
        newest = services.store.get(rollout.id)
        if newest.target == rollout.target:
            return
        # Decided meanwhile, by a verb in another process: what was just written may have undone its cut.
        expected, rollout = shown_by(rollout.target), newest


def _settle(services: "Services", rollout: Rollout, conflict: ConflictError) -> None:
    """The registry shows something unexpected: our own half-written step, or somebody else's change."""
    view = services.registry.view(rollout.model)
    own_step = (
        view.champion == rollout.champion
        and view.challenger == rollout.challenger
        and view.split is not None
        and view.split.rollout_id == rollout.id
    )
    if own_step:
        services.write_registry(rollout.model, rollout.target, expected=view)
        return
    if rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED):
        # Whoever moved the champion meant it, unless to the challenger, which must not get traffic.
        chosen = None if view.champion == rollout.challenger else view.champion
        target = replace(rollout.target, champion=chosen or rollout.champion)
        services.write_registry(rollout.model, target, expected=None)
    alert(services, rollout, {"level": "critical", "message": f"foreign change in the registry: {conflict}"})


def _request_approval(services: "Services", rollout: Rollout, effect: Effect) -> None:  # noqa: ARG001
    approval = rollout.approval
    if approval is None or approval.decision is not None:
        return
    ask(services, rollout)


def ask(services: "Services", rollout: Rollout, *, after: str = "") -> str:
    """Start the approval's flow run, once, and note it; returns its id.

    Args:
        services: the connected parts.
        rollout: with an open approval.
        after: id of the run that ended without an answer, when it is asked again.
    """
    approval = rollout.approval
    if approval is None:
        raise NotFoundError("open approval of", rollout.id)
    orchestrator = orchestrator_of(services)
    run = orchestrator.create_run(
        APPROVAL_DEPLOYMENT,
        {"rollout_id": rollout.id, "step": approval.step},
        idempotency_key=f"{rollout.id}:{approval.step}:{approval.requested_at.isoformat()}:{after}",
        name=f"approve {rollout.id} at {rollout.weight_percent:g} percent",
        tags=(f"model:{rollout.model}", f"tenant:{rollout.tenant}", "approval"),
    )
    services.store.set_approval_run(rollout.id, approval.step, run.id)
    return run.id


def _close_approval(services: "Services", rollout: Rollout, effect: Effect) -> None:  # noqa: ARG001
    orchestrator = orchestrator_of(services)
    for row in services.store.approvals(rollout.id):
        is_open = rollout.approval is not None and rollout.approval.decision is None
        if row.flow_run_id is None or (is_open and row.approval == rollout.approval):
            continue
        try:
            # Only a suspended run: one that runs is just writing the answer.
            orchestrator.cancel(row.flow_run_id, only_if="PAUSED")
        except NotFoundError:
            logger.info("approval run %s of %s is gone", row.flow_run_id, rollout.id)


def _record_evidence(services: "Services", rollout: Rollout, effect: Effect) -> None:
    history = services.store.history(rollout.id)
    if effect.detail.get("kind") == SAMPLES_KIND:
        _record_samples(services, rollout, effect, history)
        return
    if any(record.kind == ROLLBACK_KIND for record in history):
        return
    decided = [record for record in history if record.to_phase == Phase.ROLLING_BACK]
    verdicts = list((decided[0].body.get("verdicts") or {}).values()) if decided else []
    now = datetime.now(UTC)
    body = rollback_evidence(rollout, services.store.served_by(rollout), verdicts, at=now)
    body["sample_predictions"] = samples(services.store.sample_predictions(rollout, SAMPLES))
    body["breakdown"] = [asdict(part) for part in services.store.breakdown(rollout, now, limit=SLICES)]
    body["learning"] = learn(services, rollout, verdicts, body)
    services.store.record(rollout.id, ROLLBACK_KIND, "headgate", str(body["trigger_reason"]), body)


def _record_samples(
    services: "Services", rollout: Rollout, effect: Effect, history: Sequence[AuditRecord]
) -> None:
    """Keep what a check asked to be looked at, while it can still be seen in the log."""
    detail = effect.detail
    if any(record.kind == SAMPLES_KIND and record.body.get("id") == detail["id"] for record in history):
        return
    body = check_evidence(
        rollout,
        detail,
        services.store.sample_predictions(rollout, SAMPLES),
        services.store.breakdown(rollout, datetime.now(UTC), limit=SLICES),
    )
    services.store.record(rollout.id, SAMPLES_KIND, "headgate", str(detail["reason"]), body)


def _send_hook(services: "Services", rollout: Rollout, effect: Effect) -> None:  # noqa: ARG001
    send_hook(services.settings.hook_url, effect.detail)


def alert(services: "Services", rollout: Rollout, detail: Mapping[str, object]) -> None:  # noqa: ARG001
    """Tell people: the log here, channels in a later issue."""
    logger.warning("alert for %s (%s): %s", rollout.id, rollout.model, dict(detail))


def _done_by_the_commit(services: "Services", rollout: Rollout, effect: Effect) -> None:
    """Cut-off, cache, batching, flags and alerts happen in the transaction that decided them."""


_HANDLERS: Mapping[EffectKind, Callable[["Services", Rollout, Effect], None]] = {
    EffectKind.CUT_OFF: _done_by_the_commit,
    EffectKind.CLEAR_CACHE: _done_by_the_commit,
    EffectKind.BATCH_REQUESTS: _done_by_the_commit,
    EffectKind.DISABLE_FLAGS: _done_by_the_commit,
    EffectKind.SYNC_REGISTRY: _sync_registry,
    EffectKind.REQUEST_APPROVAL: _request_approval,
    EffectKind.CLOSE_APPROVAL: _close_approval,
    EffectKind.ALERT: _done_by_the_commit,
    EffectKind.RECORD_EVIDENCE: _record_evidence,
    EffectKind.HOOK: _send_hook,
}


def orchestrator_of(services: "Services") -> Orchestrator:
    """Prefect, at the address of the settings."""
    return Orchestrator(services.settings.required("prefect_api_url"))


def _encoded(view: RegistryView) -> str | None:
    return encode_split(view.split) if view.split is not None else None


def _view(plain: object) -> RegistryView | None:
    if not isinstance(plain, Mapping):
        return None
    split = plain.get("split")
    return RegistryView(
        champion=plain.get("champion"),
        challenger=plain.get("challenger"),
        shadow=plain.get("shadow"),
        holdback=plain.get("holdback"),
        split=decode_split(str(split)) if split is not None else None,
    )
