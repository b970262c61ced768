"""Weeks of a model's traffic, counted as `collect_metrics` counts them."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from psycopg import sql

from headgate.collecting.fleet import collect, specs_of
from headgate.core.drift.report import DriftReport
from headgate.core.monitoring import MonitoringSpec
from headgate.drift import report_day
from headgate.services import Services
from tests.collecting.making import Traffic, answers, people
from tests.drift.telling import day

ROWS = 150
HISTORY = 14
Inputs = list[dict[str, Any]]
_QUIET = "quiet-weeks"
_TABLES = {
    "predictions": "model",
    "outcomes": "model",
    "rollups": "model",
    "feature_grids": "model",
    "feature_days": "model",
    "model_performance_metrics": "model_type",
    "collected_days": "model",
}
"""Everything that is kept of two weeks of traffic, and the column with the model's name."""


def older(inputs: Inputs) -> Inputs:
    """Everybody is fifteen years older."""
    return [one | {"age": one["age"] + 15} for one in inputs]


def watch(services: Services, traffic: Traffic, **changes: Any) -> None:
    """Watch the model with few rows a day."""
    asked = {"model": traffic.model, "tenant": traffic.tenant, "drift": {"minRows": 100}} | changes
    services.store.save_monitoring_spec(MonitoringSpec.model_validate(asked), actor="test")


def past(services: Services, traffic: Traffic) -> None:
    """Two quiet weeks with labels: lived through once, then copied under the model's name, which is much quicker."""
    quiet = Traffic(traffic.log, "default", _QUIET)
    with services.store.db.cursor() as cursor:
        if cursor.execute("SELECT 1 FROM feature_days WHERE model = %s", [_QUIET]).fetchone() is None:
            watch(services, quiet)
            live(services, quiet, range(HISTORY))
    with services.store.db.cursor() as cursor:
        for table, name in _TABLES.items():
            cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table)))
            columns = [one.name for one in cursor.description or ()]
            new = {name: traffic.model, "tenant": traffic.tenant}
            cursor.execute(
                sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {} = {}").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join(
                        sql.Literal(new[one]) if one in new else sql.Identifier(one) for one in columns
                    ),
                    sql.Identifier(table),
                    sql.Identifier(name),
                    sql.Literal(_QUIET),
                )
            )
    traffic.sent = HISTORY * ROWS


def live(
    services: Services,
    traffic: Traffic,
    days: Sequence[int],
    *,
    change: Callable[[Inputs], Inputs] = lambda inputs: inputs,
    labels: bool = True,
    right: float | None = None,
    **fields: Any,
) -> None:
    """Answer 150 requests on each day, label them on the next, and collect.

    Args:
        change: what happens to the inputs. right: share of right answers; None = as sure as the model is.
    """
    for number in days:
        inputs = change(people(ROWS, seed=number, income=0.0))
        for place, one in enumerate(inputs):
            if "income" in one:
                one["income"] = float((place * 7919 + number * 104729) % 1000)
        said, sure, truth = answers(ROWS, seed=1000 + number)
        if right is not None:
            wrong = int(ROWS * (1 - right))
            truth = [*("no" if one == "yes" else "yes" for one in said[:wrong]), *said[wrong:]]
        names = traffic.answer(day(number), inputs, said, sure, **fields)
        if labels:
            traffic.label(day(number), names, truth)
    collect(
        services.store, None, specs_of(services.store), day(days[-1]), days=len(days), model=traffic.model,
        tenant=traffic.tenant,
    )  # fmt: skip


def judged(services: Services, traffic: Traffic, on: date, *, pages: bool = False) -> DriftReport:
    """The model's report of a day."""
    reports = report_day(services, on, [(traffic.tenant, traffic.model)], pages=pages)
    assert [(one.tenant, one.model) for one in reports] == [(traffic.tenant, traffic.model)]
    return reports[0]
