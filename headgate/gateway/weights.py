"""Weights set by hand: a split of N versions while no rollout owns the model, and the way back at any time.

While a rollout is live its gates decide who gets more. By hand one may then only take traffic from the challenger: less of
it is the verb `step-down`, none of it is `rollback`, and it is cut off here before anything else is asked.
"""

import json
import logging
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headgate import verbs
from headgate.core.rollout import Phase, RegistryTarget, RegistryView, Rollout, Verb
from headgate.core.routing.split import Split
from headgate.errors import ConflictError, HeadgateError, ServiceUnavailableError
from headgate.gateway.gateway import Gateway
from headgate.gateway.routes import Route

log = logging.getLogger(__name__)

WEIGHTS_KIND = "registry_weights"
_HUNDRED = 100.0
_SAME = 1e-4
"""Percent below which two weights are one."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What setting weights did.

    Attributes:
        rollout_id: the rollout that was moved; None = a split by hand.
        audited: False = PostgreSQL was away; traffic was moved to the champion without a record.
    """

    rollout_id: str | None
    audited: bool = True


def followed(route: Route | None) -> dict[str, float]:
    """Version -> percent of the traffic that it gets now, the champion first; what gets nothing is not named."""
    if route is None or route.champion is None:
        return {}
    shares = {} if route.alarm else dict(route.split.weights)
    shared = {name: share for name, share in shares.items() if share > 0 and name in route.live}
    if route.held is not None:
        shared[route.held] = route.split.holdback[route.held]
    shared.pop(route.champion, None)
    rest = _HUNDRED - math.fsum(shared.values())
    return ({route.champion: min(_HUNDRED, rest)} if rest > _SAME else {}) | shared


def set_weights(gateway: Gateway, model: str, percents: Mapping[str, float], actor: str, why: str) -> Moved:
    """Share a model's traffic among versions; those that are not named get nothing.

    Args:
        percents: version number -> 0-100, together 100.
        actor: who asks. why: for the audit.

    Raises:
        ConflictError: a rollout owns the traffic and this would give its challenger more; nothing was changed.
        NotFoundError: no such model or version.
        ServiceUnavailableError: PostgreSQL or MLflow is away and this is no way back to the champion.
    """
    wanted = {version: share for version, share in percents.items() if share > 0}
    only = next(iter(wanted)) if len(wanted) == 1 else None
    try:
        rollout = next((one for one in gateway.services.store.live() if one.model == model), None)
    except ServiceUnavailableError as err:
        return _without_store(gateway, model, only, err)
    if rollout is not None:
        return _move_rollout(gateway, rollout, wanted, actor, why)
    view = gateway.services.registry.view(model)
    _refuse_owned(model, view, only)
    target = _by_hand(model, view, wanted)
    if _is_so_already(view, target):
        return Moved(None)
    change = {"from": _plain(view), "to": _plain_target(target), "asked": dict(percents)}
    gateway.services.store.record_registry(
        model, gateway.tenant, WEIGHTS_KIND, actor=actor, reason=why, body=change
    )
    _write(gateway, model, target, view)
    tell(gateway, model)
    return Moved(None)


def tell(gateway: Gateway, model: str) -> None:
    """Let every gateway look at the registry now instead of at its next turn."""
    try:
        gateway.services.store.notify("headgate_split", json.dumps({"model": model, "weight": None}))
    except HeadgateError as err:
        log.warning("other gateways follow at their next look (%s)", err)


def follow(gateway: Gateway, model: str, view: RegistryView, asked_at: float) -> None:
    """Let this gateway follow what the registry was just seen to show; it loads what that names."""
    if view.champion is None:
        gateway.shelf.want(model, [version for version, wanted in view.shelf.items() if wanted])
    else:
        gateway.routes.apply(model, view, asked_at)


def _write(gateway: Gateway, model: str, target: RegistryTarget, view: RegistryView) -> None:
    asked_at = time.monotonic()
    after = gateway.services.write_registry(model, target, expected=view)
    follow(gateway, model, after, asked_at)


def _by_hand(model: str, view: RegistryView, wanted: Mapping[str, float]) -> RegistryTarget:
    """The registry's entry for these weights: all traffic to one version makes it the champion."""
    largest = max(wanted, key=lambda version: wanted[version])
    champion = largest if len(wanted) == 1 or view.champion is None else view.champion
    before = view.split if view.split is not None and view.split.rollout_id is None else Split()
    sharing = any(share > 0 for share in before.weights.values())
    # Known arms keep their places, and a split under way its salt, so that nobody moves who need not.
    order = dict.fromkeys([*(before.weights if sharing else ()), *wanted])
    weights = {name: wanted.get(name, 0.0) for name in order if name != champion}
    if not any(weights.values()):
        weights = {}
    salt = before.salt if sharing else f"{model}-{secrets.token_hex(4)}"
    split = Split(None, weights, salt=salt)
    free = {name: None if getattr(view, name) == champion else getattr(view, name) for name in _TRIALS}
    return RegistryTarget(champion, free["challenger"], free["shadow"], split)


_TRIALS = ("challenger", "shadow")


def _is_so_already(view: RegistryView, target: RegistryTarget) -> bool:
    if view.split is None or view.champion != target.champion:
        return False
    given, wanted = (
        {v: w for v, w in split.weights.items() if w > 0} for split in (view.split, target.split)
    )
    return given == wanted and not view.split.holdback


def _refuse_owned(model: str, view: RegistryView, only: str | None) -> None:
    """A split that names a rollout nobody can find is not ours to change, save back to the champion."""
    split = view.split
    shares = split is not None and (any(split.weights.values()) or bool(split.holdback))
    if view.split_error is not None or (split is not None and split.rollout_id is not None and shares):
        if only is not None and only == view.champion:
            return
        owner = split.rollout_id if split is not None else f"unreadable: {view.split_error}"
        hint = f"only all traffic to the champion {view.champion} can be set; see `headgate list --model {model}`"
        raise ConflictError(f"weights of {model}", "a split that no rollout owns", owner, hint)


def _move_rollout(
    gateway: Gateway, rollout: Rollout, wanted: Mapping[str, float], actor: str, why: str
) -> Moved:
    share = wanted.get(rollout.challenger, 0.0)
    here = _exposed(rollout)
    strangers = [version for version in wanted if version not in (rollout.challenger, rollout.champion)]
    if strangers or share > here + _SAME or (_watched(rollout) and 0 < share < here - _SAME):
        raise _owned(rollout, here)
    if share <= _SAME:
        if rollout.phase is not Phase.ROLLING_BACK:
            gateway.cut(rollout.model, rollout.id, rollout.challenger)
            try:
                verbs.act(gateway.services, rollout.id, Verb.ROLLBACK, actor=actor, reason=why, via="api")
            except ServiceUnavailableError as err:
                return _without_store(gateway, rollout.model, rollout.champion, err)
    elif share < here - _SAME:
        verbs.act(
            gateway.services,
            rollout.id,
            Verb.STEP_DOWN,
            actor=actor,
            reason=why,
            to_weight=share,
            via="api",
        )
    gateway.follower.look_soon()
    return Moved(rollout.id)


def _exposed(rollout: Rollout) -> float:
    """The challenger's share of live traffic, percent."""
    if rollout.base_phase is Phase.PROGRESSING or _watched(rollout):
        return rollout.served_percent
    return 0.0


def _watched(rollout: Rollout) -> bool:
    return rollout.base_phase in (Phase.PROMOTING, Phase.WATCHING)


def _owned(rollout: Rollout, here: float) -> ConflictError:
    hint = (
        "its gates decide who gets more: `headgate promote` waives its soak, `headgate step-down` takes traffic from it, "
        f"`headgate rollback {rollout.id}` or all traffic to {rollout.champion} ends it, `headgate abort` frees the model"
    )
    owner = f"{rollout.id} ({rollout.phase.value}, version {rollout.challenger} at {here:g} %)"
    return ConflictError(f"weights of {rollout.model}", "no rollout that owns the traffic", owner, hint)


def _without_store(gateway: Gateway, model: str, only: str | None, problem: HeadgateError) -> Moved:
    """Everything back to the champion while PostgreSQL is away: here at once, elsewhere by the registry.

    Of a rollout's split only the alias challenger is taken, which is the emergency stop that the rollout itself notices.
    """
    view = gateway.services.registry.view(model)
    split = view.split or Split()
    if only is None or only != view.champion:
        raise problem
    if split.rollout_id is None:
        target = RegistryTarget(only, view.challenger, view.shadow, replace(split, weights={}))
    else:
        for version in split.weights:
            gateway.cut(model, split.rollout_id, version)
        target = RegistryTarget(only, None, view.shadow, split, view.holdback)
    log.critical("%s: all traffic was sent to version %s by hand while PostgreSQL is away", model, only)
    _write(gateway, model, target, view)
    return Moved(split.rollout_id, audited=False)


def _plain(view: RegistryView) -> dict[str, object]:
    weights = dict(view.split.weights) if view.split else {}
    return {"champion": view.champion, "weights": weights, "revision": view.split and view.split.revision}


def _plain_target(target: RegistryTarget) -> dict[str, object]:
    return {"champion": target.champion, "weights": dict(target.split.weights), "salt": target.split.salt}
