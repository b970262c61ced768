"""What analysts ask of a test, in the documents' words; the SQL is `ab_tests.sql`, for psql and for here."""

from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from headgate.errors import NotFoundError
from headgate.store.database import Part

Row = dict[str, Any]


class ABTables(Part):
    """Reads the views and functions of `ab_tests.sql`; a row is column -> value."""

    def ab_test_configs(self) -> list[Row]:
        """Every test, the newest first."""
        return self._rows("SELECT * FROM ab_test_configs ORDER BY created_at DESC, test_id")

    def ab_test_results(
        self, test_id: str, since: datetime, until: datetime, limit: int = 10_000
    ) -> list[Row]:
        """The test's logged answers of a time range, the oldest first.

        Args:
            since, until: aware; `until` is not included.
        """
        query = (
            "SELECT * FROM ab_test_results WHERE test_id = :test_id AND time >= :since AND time < :until"
            " ORDER BY time, request_id LIMIT :limit"
        )
        return self._rows(query, test_id=test_id, since=since, until=until, limit=limit)

    def ab_test_metrics(self, test_id: str, per: Literal["hourly", "daily"] = "hourly") -> list[Row]:
        """The test's sums by hour or day of UTC, the oldest first."""
        view = {"hourly": "ab_test_metrics_hourly", "daily": "ab_test_metrics_daily"}[per]
        return self._rows(f"SELECT * FROM {view} WHERE test_id = :test_id ORDER BY bucket", test_id=test_id)  # noqa: S608

    def ab_test_summary(self, test_id: str) -> list[Row]:
        """One row per group: control, shadow, treatment."""
        return self._rows("SELECT * FROM get_ab_test_summary(:test_id)", test_id=test_id)

    def ab_test_breakdown(self, test_id: str, dimension: str = "symbol", hours_back: int = 24) -> list[Row]:
        """One row per group and value of a segment, from the log."""
        query = "SELECT * FROM get_ab_test_breakdown(:test_id, :dimension, :hours_back)"
        return self._rows(query, test_id=test_id, dimension=dimension, hours_back=hours_back)

    def verify_traffic_split(self, test_id: str, hours_back: int = 1) -> Row:
        """Whether the split gives what it aims at; `alert` only where an exact test of the keys agrees.

        Raises:
            NotFoundError: no such test.
        """
        query = "SELECT * FROM verify_traffic_split(:test_id, :hours_back)"
        found = self._rows(query, test_id=test_id, hours_back=hours_back)
        if not found:
            raise NotFoundError("test", test_id, "see `headgate list`")
        return found[0]

    def _rows(self, query: str, **values: Any) -> list[Row]:
        with self.db.transaction() as connection:
            return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]
