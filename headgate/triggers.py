"""Starts a rollout where somebody set the alias `challenger` in the registry."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headgate import verbs
from headgate.core.lint import lint
from headgate.core.rollout import Phase, RegistryView
from headgate.core.spec import RolloutSpec
from headgate.errors import HeadgateError, NotFoundError, SpecError, StoreUnavailableError

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
ACTOR = "mlflow-alias"


class Told:
    """What this process has said already, so that it is said once and not every sweep."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: set[tuple[str, str, str]] = set()

    def once(self, model: str, version: str, message: str) -> None:
        """Alert, unless the same was said before."""
        if (model, version, message) not in self._said:
            self._said.add((model, version, message))
            logger.warning("%s version %s: %s", model, version, message)


def start_by_alias(services: "Services", told: Told) -> int:
    """Start a rollout for every new holder of the alias `challenger`; returns how many were started.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    try:
        views = services.registry.views()
    except HeadgateError as err:
        logger.warning("new challengers can't be looked for: %s", err)
        return 0
    waiting = {model: view for model, view in views.items() if view.challenger not in (None, view.champion)}
    if not waiting:
        return 0
    busy = {one.model for one in services.store.live()}
    specs: dict[str, list[RolloutSpec]] = {}
    for spec in services.store.specs():
        specs.setdefault(spec.model, []).append(spec)
    fresh = {model: view for model, view in waiting.items() if model not in busy}
    return sum(
        _start_alone(services, told, view, specs.get(model, []), model) for model, view in fresh.items()
    )


def registered_spec(services: "Services", model: str, tenant: str) -> RolloutSpec:
    """The spec registered for a model.

    Raises:
        NotFoundError: none is.
    """
    spec = services.store.spec_for(model, tenant)
    if spec is None:
        raise NotFoundError("spec for model", model, "register one: `headgate apply SPEC.yaml`")
    return spec


def spec_from(plain: Mapping[str, Any]) -> RolloutSpec:
    """The spec in plain JSON, as a flow's parameter gives it. Raises SpecError."""
    spec, findings = lint(json.dumps(plain), "spec")
    if spec is None:
        raise SpecError("spec", findings)
    return spec


def _start(
    services: "Services", told: Told, view: RegistryView, specs: list[RolloutSpec], model: str
) -> bool:
    version = str(view.challenger)
    if not specs:
        told.once(
            model,
            version,
            "has the alias `challenger` but no spec; run `headgate apply SPEC.yaml` to start it",
        )
        return False
    known = [one for one in services.store.rollouts(model=model) if one.challenger == version]
    if known and known[0].phase in (Phase.ROLLED_BACK, Phase.ABORTED):
        ended = (
            f"{known[0].id} ended as {known[0].phase.value}; `headgate retry {known[0].id}` starts it again"
        )
        told.once(model, version, f"is not started again by its alias: {ended}")
        return False
    try:
        spec = specs[0] if len(specs) == 1 else _of_its_tenant(services, specs, model, version)
        verbs.start(services, spec, version, actor=ACTOR, reason=f"alias challenger on version {version}")
    except StoreUnavailableError:
        raise
    except HeadgateError as err:
        told.once(model, version, f"can't be started: {err}")
        return False
    return True


def _of_its_tenant(services: "Services", specs: list[RolloutSpec], model: str, version: str) -> RolloutSpec:
    """The spec of the tenant that a version was retrained for; the first where no retraining made it."""
    made_by = services.store.retraining_of_version(model, version) or services.store.live_retraining(model)
    return next((one for one in specs if made_by is not None and one.tenant == made_by.tenant), specs[0])


def _start_alone(
    services: "Services", told: Told, view: RegistryView, specs: list[RolloutSpec], model: str
) -> bool:
    """Start one; what breaks is that model's alone, and must not end the sweep over the others (MN-02)."""
    try:
        return _start(services, told, view, specs, model)
    except StoreUnavailableError:
        raise
    except Exception as err:  # noqa: BLE001  what broke is told once, and the next sweep tries again
        told.once(model, str(view.challenger), f"can't be started, its look-up broke: {err!r:.200}")
        return False
