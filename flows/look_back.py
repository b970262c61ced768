"""Whether a former champion is right more often now than the one that serves."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.look_back import look_back_at_all, tell_look_back


@flow(name="look_back", flow_run_name="former champions on the newest labels")
def look_back(model: str | None = None, tenant: str | None = None) -> State[None]:
    """Try former champions on the newest labelled rows; one that is proven better is offered to the gates, without training.

    Args:
        model: only this one; empty = all in mode `automatic`.
        tenant: only this one's; empty = all.
    """
    found = look_back_at_all(model, tenant)
    tell_look_back(found)
    offered = sum(one.version is not None for one in found)
    return Completed(message=f"{len(found)} looked at, {offered} former champions offered again")
