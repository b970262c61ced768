"""Logged inputs, drawn at random."""

from typing import Any

import sqlalchemy as sa

from headgate.store.database import Part

_SAMPLE = sa.text(
    # By request id, which is indexed and has nothing to do with time; a sample by time would read whole days.
    "SELECT inputs FROM predictions WHERE tenant = :tenant AND model = :model AND request_id >= :start"
    " AND inputs IS NOT NULL ORDER BY request_id LIMIT :most"
)


class Samples(Part):
    """Samples of the prediction log."""

    def sample_inputs(self, model: str, tenant: str, most: int, start: str) -> list[Any]:
        """Inputs of up to `most` logged rows, those whose request ids come first from `start` on, then from the beginning."""
        found: list[Any] = []
        with self.db.transaction() as connection:
            for begin in (start, ""):
                asked = {"tenant": tenant, "model": model, "start": begin, "most": most - len(found)}
                found += connection.execute(_SAMPLE, asked).scalars()
                if len(found) >= most:
                    break
        return found
