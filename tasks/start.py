"""Starts rollouts: asked for, or seen by their alias in the registry."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate import triggers, verbs
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def start_by_alias(told: triggers.Told) -> int:
    """Start a rollout for every version that was given the alias `challenger` in the registry."""
    return triggers.start_by_alias(parts(), told)


@task(cache_policy=NO_CACHE)
def create_rollout(
    model: str, version: str | None, spec: dict[str, Any] | None, tenant: str, actor: str, reason: str
) -> str:
    """Start one rollout, by the given spec or the model's registered one; returns its id."""
    services = parts()
    chosen = (
        triggers.spec_from(spec) if spec is not None else triggers.registered_spec(services, model, tenant)
    )
    return verbs.start(services, chosen, version, actor=actor, reason=reason).id
