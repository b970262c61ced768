"""The daily figures of every model, and the sums that drift is judged by."""

from datetime import date

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.collect import collect_chunk, finish_collecting, plan_days
from tasks.overtime import in_time
from tasks.runners import mapped


@flow(name="collect_metrics")
def collect_metrics(
    day: date | None = None,
    days: int | None = None,
    model: str | None = None,
    tenant: str | None = None,
    again: bool = False,
    regrid: bool = False,
) -> State[None]:
    """Count the last complete day of the prediction log, and those before it that were missed or to which labels came late.

    It only reads the log: nothing is judged and no traffic is touched (AR-12). The same day twice changes nothing.

    Args:
        day: the last one, UTC; None = yesterday.
        days: so many days up to it are looked at; None = 7 for what came late, 60 for what was missed.
        model: only this one's. tenant: only this one's.
        again: read days that have not changed, too.
        regrid: learn the models' grids anew from the first of the days; judgements then begin anew as well.
    """
    with in_time("collect_metrics"):
        pieces = plan_days(day, days, model, tenant, again=again, regrid=regrid)
        return Completed(message=finish_collecting(mapped(collect_chunk, pieces)))
