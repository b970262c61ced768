"""Which models should be trained again, after the night's drift reports."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.retrain import carry_on, propose_all, tell_proposals


@flow(name="propose_retrainings", flow_run_name="which models to train again")
def propose_retrainings(model: str | None = None, tenant: str | None = None) -> State[None]:
    """Look at every model with a monitoring spec; begin a retraining where a trigger holds and nothing stands in the way.

    Args:
        model: only this one; empty = all.
        tenant: only this one's; empty = all.
    """
    proposals = propose_all(model, tenant)
    tell_proposals(proposals)
    live = carry_on()
    return Completed(message=f"{len(proposals)} looked at, {len(live)} retrainings under way")
