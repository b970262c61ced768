"""Start one model's rollout."""

from typing import Any

from prefect import flow

from tasks.start import create_rollout


@flow(name="start_rollout", flow_run_name="start {model} {version}")
def start_rollout(
    model: str,
    version: str | None = None,
    spec: dict[str, Any] | None = None,
    tenant: str = "default",
    actor: str = "prefect",
    reason: str = "",
) -> str:
    """Start a challenger's rollout; asked twice, the same one comes back, a second live one is refused.

    Args:
        model: the registered model in MLflow.
        version: the challenger; empty = the version with the alias `challenger`.
        spec: the rollout spec; empty = the one registered by `headgate apply`.
        tenant: whose model it is.
        actor: who asks.
        reason: why, for the audit.
    """
    return create_rollout(model, version, spec, tenant, actor, reason)
