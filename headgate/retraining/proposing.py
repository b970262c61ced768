"""Which models should be trained again, why, or why not; and a retraining that a person asks for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining import machine
from headgate.core.retraining.circumstances import Ask, Circumstances
from headgate.core.retraining.safeguards import AUTOMATIC_MODES, judge_safeguards
from headgate.core.retraining.state import Retraining, Safeguard, Trigger
from headgate.core.retraining.triggers import TriggerState, judge_triggers
from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.retraining.surroundings import look, read_surroundings
from headgate.retraining.telling import tell

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
ACTOR = "headgate"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found of one tenant's model.

    Attributes:
        triggers: each with whether it holds. safeguards: for the weightiest that holds; empty when none does.
        retraining: what was proposed now, or is under way; None = nothing.
    """

    tenant: str
    model: str
    triggers: tuple[TriggerState, ...]
    safeguards: tuple[Safeguard, ...] = ()
    retraining: Retraining | None = None

    @property
    def sentence(self) -> str:
        """Why, or why not."""
        if self.retraining is not None:
            return f"{self.retraining.id} is {self.retraining.phase.value}: {self.retraining.said}"
        holding = [one for one in self.triggers if one.holds]
        if not holding:
            return "no trigger holds: " + "; ".join(
                f"{one.trigger.value}: {one.sentence}" for one in self.triggers
            )
        ways = [f"{one.name}: {one.sentence}" for one in self.safeguards if one.in_the_way]
        return f"{holding[0].trigger.value} asks for it, in the way: {'; '.join(ways)}"


def propose(
    services: "Services",
    now: datetime | None = None,
    *,
    model: str | None = None,
    tenant: str | None = None,
) -> list[Proposal]:
    """Propose a retraining wherever a trigger holds and no safeguard stands in the way.

    Models in the modes `collect` and `alert` are left alone. Called twice, the second call finds the first one's.

    Args:
        services: the connected parts.
        now: the time that is judged by; None = the clock's.
        model, tenant: only these; None = all that have a monitoring spec.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    at = now or datetime.now(UTC)
    specs = [
        spec
        for spec in services.store.monitoring_specs(model)
        if spec.mode in AUTOMATIC_MODES and tenant in (None, spec.tenant)
    ]
    if not specs:
        return []
    around = read_surroundings(services, specs, at)
    found = []
    for spec in specs:
        known = next((one for one in around.live.get(spec.model, ()) if one.tenant == spec.tenant), None)
        found.append(_propose(services, around.of(spec, known), known))
    return found


def _propose(services: "Services", seen: Circumstances, known: Retraining | None) -> Proposal:
    spec, triggers = seen.spec, judge_triggers(seen)
    if known is not None:
        return Proposal(spec.tenant, spec.model, triggers, known.safeguards, known)
    first: tuple[Safeguard, ...] = ()
    for trigger in triggers:
        if not trigger.holds:
            continue
        made = machine.propose("", ask_by(trigger), trigger.sentence, seen)
        if isinstance(made, Retraining):
            return Proposal(
                spec.tenant, spec.model, triggers, made.safeguards, _create_or_find(services, made)
            )
        first = first or made
    return Proposal(spec.tenant, spec.model, triggers, first)


def _create_or_find(services: "Services", made: Retraining) -> Retraining | None:
    try:
        return _create(services, made, ACTOR)
    except (
        ConflictError
    ) as err:  # Somebody else began one meanwhile, or a tenant of the same model did just now.
        logger.info("not proposed: %s", err)
        return services.store.live_retraining(made.model, made.tenant)


def ask_by(trigger: TriggerState) -> Ask:
    """What a trigger asks for."""
    return Ask(trigger.trigger, ACTOR, trigger.severity, trigger.causes)


def retrain(
    services: "Services",
    model: str,
    tenant: str = "default",
    *,
    actor: str,
    reason: str,
    anyway: bool = False,
    now: datetime | None = None,
) -> Retraining:
    """A retraining that a person asks for: without confirmation, cooldown and flag, but validated and released as any other.

    Args:
        services: the connected parts.
        model, tenant: which.
        actor: who asks. reason: why, for the audit.
        anyway: also where the mode retrains nothing, or pilots come first.
        now: the time that is judged by; None = the clock's.

    Raises:
        BadRequestError: nobody's name is given. NotFoundError: the model has no monitoring spec.
        ConflictError: one is live already, or a safeguard stands in the way; nothing was changed.
    """
    if not actor.strip():
        raise BadRequestError(
            "actor", actor, "be the name of who asks, since a person's word replaces approval"
        )
    spec = monitored(services, model, tenant)
    seen = look(services, spec, now or datetime.now(UTC))
    ask = Ask(Trigger.MANUAL, actor, seen.severity, (), anyway)
    made = machine.propose("", ask, reason or f"asked for by {actor}", seen)
    if isinstance(made, Retraining):
        return _create(services, made, actor)
    ways = "; ".join(f"{one.name}: {one.sentence}" for one in made if one.in_the_way)
    raise ConflictError(f"retraining of {model} for {tenant}", "no safeguard in the way", ways)


def retraining_triggers(
    services: "Services", model: str, tenant: str = "default", now: datetime | None = None
) -> dict[str, Any]:
    """Which triggers hold for a model, and which safeguards stand in the way, as plain JSON (AR-07).

    Raises:
        NotFoundError: the model has no monitoring spec.
    """
    spec = monitored(services, model, tenant)
    at = now or datetime.now(UTC)
    seen = look(services, spec, at)
    triggers = judge_triggers(seen)
    weightiest = next((one for one in triggers if one.holds), triggers[0])
    safeguards = judge_safeguards(ask_by(weightiest), seen)
    live = services.store.live_retraining(model, tenant)
    holds = any(one.holds for one in triggers)
    return {
        "model": model,
        "tenant": tenant,
        "at": at.isoformat(),
        "mode": spec.mode,
        "triggers": [
            {
                "name": one.trigger.value,
                "holds": one.holds,
                "sentence": one.sentence,
                "severity": one.severity,
                "causes": list(one.causes),
                "days": one.days,
            }
            for one in triggers
        ],
        "safeguards": safeguards_json(safeguards),
        "would_retrain": holds and not any(one.in_the_way for one in safeguards),
        "asks_a_person": any(one.stand == "asks" for one in safeguards),
        "retraining": live.id if live is not None else None,
    }


def safeguards_json(safeguards: Sequence[Safeguard]) -> list[dict[str, Any]]:
    """Safeguards as plain JSON."""
    return [
        {"name": one.name, "stand": one.stand, "in_the_way": one.in_the_way, "sentence": one.sentence}
        for one in safeguards
    ]


def monitored(services: "Services", model: str, tenant: str) -> MonitoringSpec:
    """A model's monitoring spec.

    Raises:
        NotFoundError: it has none.
    """
    spec = services.store.monitoring_spec(tenant, model)
    if spec is None:
        raise NotFoundError(
            f"monitoring spec of tenant {tenant} for model", model, "headgate monitor apply SPEC.yaml"
        )
    return spec


def _create(services: "Services", made: Retraining, actor: str) -> Retraining:
    store = services.store
    named = replace(made, id=store.next_retraining_id(made.tenant, made.model))
    one = store.create_retraining(named, actor=actor)
    tell(services, one)
    return one
