"""Train a model again, prove it, and hand it to its rollout."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.retrain import (
    allow_or_ask,
    cut_and_train,
    follow_rollout,
    take_up,
    tell_retraining,
    validate_and_register,
)


@flow(name="retrain_and_promote", flow_run_name="retrain {model} of {tenant}")
def retrain_and_promote(
    model: str,
    tenant: str = "default",
    retraining_id: str = "",
    actor: str = "prefect",
    reason: str = "",
    anyway: bool = False,
) -> State[None]:
    """Train a model again, prove it beside the champion, and hand it to its rollout; killed at any line, run it again.

    Args:
        model: the registered model in MLflow.
        tenant: whose.
        retraining_id: one that was proposed; empty = the live one, else a new one, asked for by hand.
        actor: who asks by hand.
        reason: why, for the audit.
        anyway: by hand, also where the mode retrains nothing or pilots come first.
    """
    one = take_up(model, tenant, retraining_id, actor, reason, anyway)
    for step in (allow_or_ask, cut_and_train, validate_and_register, follow_rollout):
        one = step(one)
    tell_retraining(one)
    return Completed(message=f"{one.phase.value}: {one.said}")
