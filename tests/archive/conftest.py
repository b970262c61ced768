"""A log with days in it, and both kinds of place to archive them to."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from headgate.store import Store
from headgate.store.maintenance import ensure_partition
from tests.artifacts.conftest import (
    aws_environment,
    gate,
    guarded,
    new_bucket,
    place,
    s3_server,
    shared_bucket,
)
from tests.store.conftest import log, new_log, query, shared_url, store, url
from tests.store.making import a_prediction, an_outcome

__all__ = [
    "aws_environment",
    "gate",
    "guarded",
    "log",
    "new_bucket",
    "new_log",
    "place",
    "query",
    "s3_server",
    "shared_bucket",
    "shared_url",
    "store",
    "url",
]
NOW = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
OLD = date(2026, 5, 1)


def noon(day: date) -> datetime:
    """The middle of a day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture
def fill(store: Store, log: Any, query: Any) -> Callable[..., None]:
    """`fill(day, rows=10, labels=3, …)`: a day of predictions in a table of its own, some of them labelled."""

    def do(
        day: date, rows: int = 10, labels: int = 0, *, start: int = 0, partition: bool = True, **changes: Any
    ) -> None:
        if partition:
            with store.db.cursor() as cursor:
                ensure_partition(cursor, day)
        names = [f"{day}-{number}" for number in range(start, start + rows)]
        first = noon(day) - timedelta(hours=6)
        log.append_many(
            [
                a_prediction(
                    name,
                    time=first + timedelta(seconds=7 * number),
                    inputs={"x": number, "name": "é"},
                    **changes,
                )
                for number, name in enumerate(names)
            ]
        )
        assert log.flush()
        subject = {name: changes[name] for name in ("tenant", "model") if name in changes}
        log.append_outcomes(
            [an_outcome(name, at=first + timedelta(days=2), **subject) for name in names[:labels]]
        )

    return do
