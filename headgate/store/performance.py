"""The daily history of each version's figures (DB-10)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from headgate.core.drift.performance import DailyPerformance
from headgate.store.database import Part

NEWEST_DAYS = 60


@dataclass(frozen=True, slots=True)
class VersionDay:
    """What one version did on one UTC day, where users met it.

    Attributes:
        requests: answers and failures. as_champion: of these, as the champion. errors: of these, failures. outcomes: answers with a label. correct: label = answer.
        accuracy: 0-1. pr_auc: average precision of `positive_label`, 0-1. pr_auc_error: how far it may be off because
            scores were rounded; 0 = exact. brier: mean of (confidence - correct)^2, 0-1. calibration_error: 0-1.
        error_rate: 0-1, of the requests. mean_confidence: 0-1.
        labelled_share: labels over answers, 0-1. labelled_within: days -> the share that had its label by then.
        business: name -> value. fairness: column -> value -> figures, and `gaps`. notes: what could not be computed, and why.
            None = it could not be measured, never a number that is none.
    """

    version: str
    day: date
    requests: int
    as_champion: int
    errors: int
    outcomes: int
    correct: int
    accuracy: float | None = None
    pr_auc: float | None = None
    pr_auc_error: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    error_rate: float | None = None
    mean_confidence: float | None = None
    labelled_share: float | None = None
    labelled_within: Mapping[str, float] = field(default_factory=dict)
    positive_label: str | None = None
    business: Mapping[str, float | None] = field(default_factory=dict)
    fairness: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return found | {"day": self.day.isoformat(), "notes": list(self.notes)}


_FIGURES = ("pr_auc", "brier", "calibration_error")
_JSON = ("labelled_within", "business", "fairness", "notes")
_COLUMNS = tuple(one.name for one in fields(VersionDay))
_VALUES = tuple(name for name in _COLUMNS if name not in ("version", "day"))
_NAMES = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
_NEW, _OLD = (
    sql.SQL(", ").join(sql.Identifier(table, name) for name in _VALUES)
    for table in ("excluded", "model_performance_metrics")
)
# A day that is the same as before is not written again.
_SAVE = sql.SQL("""
INSERT INTO model_performance_metrics (tenant, model_type, created_at, {names}) VALUES (%s, %s, now(), {values})
ON CONFLICT (tenant, model_type, version, day) DO UPDATE SET ({changed}) = ({new}) WHERE ({old}) IS DISTINCT FROM ({new})
""").format(
    names=_NAMES,
    values=sql.SQL(", ").join([sql.Placeholder()] * len(_COLUMNS)),
    changed=sql.SQL(", ").join(map(sql.Identifier, _VALUES)),
    new=_NEW,
    old=_OLD,
)
_READ = sql.SQL(
    "SELECT {names} FROM model_performance_metrics WHERE tenant = %s AND model_type = %s AND day >= %s ORDER BY day, version"
).format(names=_NAMES)
_FLEET = sql.SQL(
    "SELECT tenant, model_type, {names} FROM model_performance_metrics WHERE day BETWEEN %(first)s AND %(last)s"
    " AND (%(tenants)s::text[] IS NULL OR (tenant, model_type) IN"
    " (SELECT * FROM unnest(%(tenants)s::text[], %(models)s::text[])))"
    " ORDER BY tenant, model_type, day, version"
).format(names=_NAMES)
_POSITIVE = """
SELECT positive_label FROM model_performance_metrics
WHERE tenant = %s AND model_type = %s AND positive_label IS NOT NULL ORDER BY created_at, day LIMIT 1
"""


class Performance(Part):
    """Writes and reads the history; `model_type` is the documents' word for the model."""

    def save_performance(self, tenant: str, model: str, days: Sequence[VersionDay]) -> None:
        """Write figures down, in place of what was known of the same versions' days; numbers that are none become NULL."""
        rows = [[tenant, model, *(_stored(name, getattr(one, name)) for name in _COLUMNS)] for one in days]
        with self.db.cursor() as cursor:
            cursor.executemany(_SAVE, rows)

    def version_days(self, model: str, tenant: str = "default", *, since: date) -> list[VersionDay]:
        """All that is known of a model's versions, by day and version, from `since` on."""
        with self.db.cursor() as cursor:
            cursor.execute(_READ, [tenant, model, since])
            return [_version_day(row) for row in cursor]

    def performance(
        self, model: str, tenant: str = "default", since: date | None = None
    ) -> list[DailyPerformance]:
        """A model's days, as drift is judged by them: of the versions that were champion; the newest `NEWEST_DAYS` by default."""
        first = since if since is not None else self._newest(model, tenant) - timedelta(days=NEWEST_DAYS)
        return [judged(one) for one in self.version_days(model, tenant, since=first) if one.as_champion]

    def fleet_performance(
        self, first: date, last: date, keys: Sequence[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], list[DailyPerformance]]:
        """The same of every tenant and model, `first` to `last`; with `keys`, of these pairs only."""
        given: dict[str, Any] = {"first": first, "last": last, "tenants": None, "models": None}
        if keys is not None:
            given |= {"tenants": [tenant for tenant, _ in keys], "models": [model for _, model in keys]}
        found: dict[tuple[str, str], list[DailyPerformance]] = {}
        with self.db.cursor() as cursor:
            cursor.execute(_FLEET, given)
            for tenant, model, *row in cursor:
                one = _version_day(row)
                if one.as_champion:
                    found.setdefault((tenant, model), []).append(judged(one))
        return found

    def positive_label(self, tenant: str, model: str) -> str | None:
        """The class that the history's first figures are about; None = none yet."""
        with self.db.cursor() as cursor:
            row = cursor.execute(_POSITIVE, [tenant, model]).fetchone()
        return None if row is None else str(row[0])

    def _newest(self, model: str, tenant: str) -> date:
        with self.db.cursor() as cursor:
            row = cursor.execute(
                "SELECT max(day) FROM model_performance_metrics WHERE tenant = %s AND model_type = %s",
                [tenant, model],
            ).fetchone()
        return row[0] if row is not None and row[0] is not None else date.max


def judged(one: VersionDay) -> DailyPerformance:
    """As drift is judged by it; NaN = unknown."""
    known = {name: math.nan if getattr(one, name) is None else getattr(one, name) for name in _FIGURES}
    business = {name: math.nan if value is None else value for name, value in one.business.items()}
    rows = one.requests - one.errors
    return DailyPerformance(one.day, one.version, one.outcomes, one.correct, rows, **known, business=business)


def _stored(name: str, value: Any) -> Any:
    if name in _JSON:
        return Jsonb(_finite(list(value) if name == "notes" else dict(value))) if value else None
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value


def _version_day(row: Sequence[Any]) -> VersionDay:
    found = zip(_COLUMNS, row, strict=True)
    return VersionDay(**{name: value for name, value in found if not (name in _JSON and value is None)})
