"""Drift reports: one per tenant, model and day, written over when the day is judged again."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.drift.report import DriftReport
from headgate.store.codec import plain, utc_now
from headgate.store.database import Part, outages_translated
from headgate.store.report_tables import drift_reports

Key = tuple[str, str]
"""(tenant, model)."""
_PUBLISH_LOCK = 7_302_011
_JUDGED = ("no_drift", "drift")


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report, where its pages are (what -> address or sentence), and when it was judged."""

    report: DriftReport
    links: Mapping[str, str]
    created_at: datetime


class DriftReports(Part):
    """The only reader and writer of `drift_reports`."""

    def save_drift_reports(self, reports: Sequence[DriftReport]) -> None:
        """Write reports; a day's former report is replaced, its links stay until new ones are given."""
        if not reports:
            return
        now = utc_now()
        rows = [_row(report, now) for report in reports]
        statement = insert(drift_reports)
        kept = {name: statement.excluded[name] for name in ("status", "severity", "body", "created_at")}
        change = statement.on_conflict_do_update(index_elements=["tenant", "model", "day"], set_=kept)
        with self.db.transaction() as connection:
            connection.execute(change, rows)

    def link_drift_report(self, tenant: str, model: str, day: date, links: Mapping[str, str]) -> None:
        """Say where a report's pages are, in place of what was said before."""
        change = sa.update(drift_reports).where(*_is(tenant, model), drift_reports.c.day == day)
        with self.db.transaction() as connection:
            connection.execute(change.values(links=plain(dict(links))))

    def drift_report(self, tenant: str, model: str, day: date | None = None) -> StoredReport | None:
        """The report of a day, or the newest one; None when there is none."""
        found = self._reports(
            *_is(tenant, model), *([] if day is None else [drift_reports.c.day == day]), limit=1
        )
        return found[0] if found else None

    def drift_history(self, tenant: str, model: str, first: date, last: date) -> list[StoredReport]:
        """A model's reports of these days, both included, the oldest first."""
        found = self._reports(*_is(tenant, model), drift_reports.c.day.between(first, last), limit=None)
        return found[::-1]

    def fleet_reports(
        self, first: date, last: date, keys: Collection[Key] | None = None
    ) -> dict[Key, list[DriftReport]]:
        """Reports of many models, the oldest first; `keys` None = of all."""
        query = sa.select(drift_reports.c.body).where(drift_reports.c.day.between(first, last))
        if keys is not None:
            query = query.where(sa.tuple_(drift_reports.c.tenant, drift_reports.c.model).in_(list(keys)))
        found: dict[Key, list[DriftReport]] = defaultdict(list)
        with self.db.transaction() as connection:
            for body in connection.execute(query.order_by(drift_reports.c.day)).scalars():
                report = DriftReport.from_json(body)
                found[report.tenant, report.model].append(report)
        return dict(found)

    def newest_drift_reports(self, tenant: str | None = None) -> list[DriftReport]:
        """Each model's newest report, of a tenant or of all, in the order of tenant and model."""
        query = sa.select(drift_reports.c.body).distinct(drift_reports.c.tenant, drift_reports.c.model)
        if tenant is not None:
            query = query.where(drift_reports.c.tenant == tenant)
        query = query.order_by(drift_reports.c.tenant, drift_reports.c.model, drift_reports.c.day.desc())
        with self.db.transaction() as connection:
            return [DriftReport.from_json(body) for body in connection.execute(query).scalars()]

    def judged_days_after(self, tenant: str, model: str, day: date, until: date) -> int:
        """Days after `day` and up to `until` on which there was enough to judge."""
        query = sa.select(sa.func.count()).select_from(drift_reports)
        query = query.where(
            *_is(tenant, model),
            drift_reports.c.day > day,
            drift_reports.c.day <= until,
            drift_reports.c.status.in_(_JUDGED),
        )
        with self.db.transaction() as connection:
            return int(connection.execute(query).scalar_one())

    @contextmanager
    def publish_lock(self) -> Iterator[None]:
        """Wait for the turn to make a report's pages: one at a time, whoever asks; the lock goes with its connection."""
        with self.db.own_connection() as connection:
            with outages_translated(self.db.url):
                connection.execute("SET statement_timeout = 0")
                connection.execute("SELECT pg_advisory_lock(%s)", [_PUBLISH_LOCK])
            yield

    def _reports(self, *wanted: "sa.ColumnElement[bool]", limit: int | None) -> list[StoredReport]:
        query = sa.select(drift_reports).where(*wanted).order_by(drift_reports.c.day.desc()).limit(limit)
        with self.db.transaction() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            StoredReport(DriftReport.from_json(row["body"]), row["links"], row["created_at"]) for row in rows
        ]


def _is(tenant: str, model: str) -> "tuple[sa.ColumnElement[bool], ...]":
    return drift_reports.c.tenant == tenant, drift_reports.c.model == model


def _row(report: DriftReport, now: datetime) -> dict[str, Any]:
    return {
        "tenant": report.tenant,
        "model": report.model,
        "day": report.day,
        "status": report.status,
        "severity": report.severity,
        "body": report.to_json(),
        "created_at": now,
    }
