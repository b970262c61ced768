"""Drift of every model's day, judged and told."""

from datetime import date

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.drift import judge_chunk, plan_reports, publish_report, tell_day
from tasks.overtime import in_time
from tasks.runners import mapped


@flow(name="report_drift")
def report_drift(day: date | None = None, model: str | None = None, tenant: str | None = None) -> State[None]:
    """Judge a day from its sums, alert once per cause, and make the pages of the models that moved.

    Nothing of it touches traffic. The same day again gives the same reports; one model that breaks stops no other.

    Args:
        day: the UTC date; empty = yesterday. Its sums must be there: `collect_metrics` makes them.
        model: only this one.
        tenant: only this one's.
    """
    with in_time("report_drift"):
        wanted, pieces = plan_reports(day, model, tenant)
        judged = tell_day(wanted, mapped(judge_chunk, pieces, day=wanted), model, tenant)
        for report in judged.to_publish:
            publish_report((report.tenant, report.model), wanted)
    return Completed(message=judged.summary())
