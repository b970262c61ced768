"""Carry the retrainings on that wait: for an answer, for their rollout, for a process that died."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.retrain import carry_on


@flow(name="follow_retrainings", flow_run_name="follow the retrainings")
def follow_retrainings() -> State[None]:
    """Close what has run out, follow rollouts to their end, and begin again what died; does nothing twice."""
    live = carry_on()
    said = "; ".join(f"{one.id}: {one.phase.value}" for one in live)
    return Completed(message=said or "no retraining is under way")
