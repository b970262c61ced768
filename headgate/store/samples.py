"""Logged inputs."""

from typing import Any

import sqlalchemy as sa

from headgate.store.database import Part

_NEWEST = sa.text(
    # By request id, which is indexed; those that the gateway makes begin with the time. By time, whole days would be read.
    "SELECT inputs FROM predictions WHERE tenant = :tenant AND model = :model AND inputs IS NOT NULL"
    " ORDER BY request_id DESC LIMIT :most"
)


class Samples(Part):
    """Samples of the prediction log."""

    def newest_inputs(self, model: str, tenant: str, most: int) -> list[Any]:
        """Inputs of about the newest logged rows of a model, at most so many."""
        with self.db.transaction() as connection:
            asked = {"tenant": tenant, "model": model, "most": most}
            return list(connection.execute(_NEWEST, asked).scalars())
