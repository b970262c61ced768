"""What the drift story really did, read back from PostgreSQL, MLflow and the counts of the traffic."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headgate.demo.drift.days import TENANT, Calendar
from headgate.demo.drift.models import MODEL
from headgate.demo.drift.report import Attempt, Day, Shares
from headgate.demo.facts import Way, read_ways
from headgate.store.database import connect
from headgate.store.retrainings import SUBJECT

if TYPE_CHECKING:
    from headgate.services import Services

_SETTLED_S = 2


def read_days(services: "Services", calendar: Calendar) -> list[Day]:
    """The simulated days as `collect_metrics` and `report_drift` have written them down."""
    store = services.store
    reports = {
        one.report.day: one.report
        for one in store.drift_history(TENANT, MODEL, calendar.first, calendar.last)
    }
    figures = {one.day: one for one in store.version_days(MODEL, TENANT, since=calendar.first)}
    days = []
    for day in calendar.days:
        found = figures.get(day)
        days.append(
            Day(
                day,
                rows=found.requests if found else 0,
                outcomes=found.outcomes if found else 0,
                accuracy=found.accuracy if found else None,
                pr_auc=found.pr_auc if found else None,
                report=reports.get(day),
            )
        )
    return days


def read_attempts(services: "Services") -> list[Attempt]:
    """Every retraining with its traces, the oldest first."""
    store = services.store
    ways = {way.rollout_id: way for way in read_ways(services, MODEL)}
    attempts = []
    for made in reversed(store.retrainings(MODEL, TENANT)):
        history = store.history(SUBJECT + made.id)
        phases = [
            (record.to_phase or "", record.at) for record in history if record.from_phase != record.to_phase
        ]
        card, lineage = read_version(services, made.version) if made.version else ("", {})
        way = ways.get(made.rollout_id or "") or _way_of(ways.values(), made.version)
        attempts.append(Attempt(made, phases, card, lineage, way))
    return attempts


def _way_of(ways: Any, version: str | None) -> Way | None:
    return next((way for way in ways if version is not None and way.version == version), None)


def read_version(services: "Services", version: str) -> tuple[str, dict[str, str]]:
    """A version's model card, and what it was trained on, as MLflow shows them to anybody."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(services.settings.required("mlflow_uri"))
    shown = client.get_model_version(MODEL, version)
    lineage = {name: str(value) for name, value in shown.tags.items() if "data" in name or "trained" in name}
    if shown.run_id:
        for used in client.get_run(shown.run_id).inputs.dataset_inputs:
            lineage[used.dataset.name] = f"digest {used.dataset.digest}"
    return str(shown.description or ""), lineage


def count_live(database_url: str, since: datetime) -> int:
    """Live requests since a moment in the prediction log; mirrored calls and fallbacks are not counted twice."""
    query = "SELECT count(DISTINCT request_id) FROM predictions WHERE model = %s AND arm <> 'shadow' AND time >= %s"
    with connect(database_url) as connection:
        row = connection.execute(query, (MODEL, since)).fetchone()
    return int(row[0]) if row else 0


def shares(seconds: Mapping[str, Sequence[int]], first: datetime, last: datetime) -> Shares:
    """Right answers between two moments; the first seconds, in which the change before was still settling, are left out.

    Args:
        seconds: POSIX second -> answers, right in truth, right by what was told.
    """
    start, end = first.timestamp() + _SETTLED_S, last.timestamp()
    found = [counts for second, counts in seconds.items() if start <= int(second) < end]
    answers, truth, told = (sum(counts[place] for counts in found) for place in range(3))
    return (
        Shares(answers, truth / answers, told / answers) if answers else Shares(0, float("nan"), float("nan"))
    )
