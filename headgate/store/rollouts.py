"""Reading rollouts, flags, alerts and current verdicts."""

import logging
import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from headgate.core.rollout import Phase, Rollout
from headgate.core.verdict import Verdict
from headgate.errors import NotFoundError
from headgate.store.codec import rollout_from_json, rollout_to_json, verdicts_from_json
from headgate.store.database import Part
from headgate.store.schema import alerts, flags, rollouts, verdicts

logger = logging.getLogger(__name__)


def rollout_columns(rollout: Rollout) -> dict[str, Any]:
    """The row of a rollout: its state, and the columns that queries need."""
    return {
        "id": rollout.id,
        "tenant": rollout.tenant,
        "model": rollout.model,
        "challenger": rollout.challenger,
        "champion": rollout.champion,
        "phase": rollout.phase.value,
        "pause_reason": rollout.pause_reason.value if rollout.pause_reason is not None else None,
        "step": rollout.step,
        "weight_percent": rollout.weight_percent,
        "revision": rollout.revision,
        "live": rollout.phase.live,
        "created_at": rollout.created_at,
        "evidence_since": rollout.evidence_since,
        "finished_at": rollout.finished_at,
        "state": rollout_to_json(rollout),
    }


class Rollouts(Part):
    """Reads; the writes are in `Commits`."""

    def get(self, rollout_id: str) -> Rollout:
        """One rollout.

        Raises:
            NotFoundError: no such rollout.
        """
        query = sa.select(rollouts.c.state).where(rollouts.c.id == rollout_id)
        with self.db.transaction() as connection:
            state = connection.execute(query).scalar_one_or_none()
        if state is None:
            raise NotFoundError("rollout", rollout_id, "see `headgate list`")
        return rollout_from_json(state)

    def live(self) -> list[Rollout]:
        """Every rollout that can still move traffic, oldest first.

        One whose state can't be read is logged and left out: it stays as it is, and does not stop the others.
        """
        return self._select(
            sa.select(rollouts.c.state).where(rollouts.c.live).order_by(rollouts.c.created_at),
            readable_only=True,
        )

    def live_for(self, model: str, tenant: str = "default") -> Rollout | None:
        """The model's live rollout, if there is one."""
        query = sa.select(rollouts.c.state).where(
            rollouts.c.live, rollouts.c.model == model, rollouts.c.tenant == tenant
        )
        found = self._select(query)
        return found[0] if found else None

    def rollouts(
        self,
        model: str | None = None,
        tenant: str | None = None,
        phase: Phase | None = None,
        limit: int = 100,
    ) -> list[Rollout]:
        """Rollouts, newest first, at most `limit`."""
        query = (
            sa.select(rollouts.c.state)
            .order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc())
            .limit(limit)
        )
        for column, value in (
            (rollouts.c.model, model),
            (rollouts.c.tenant, tenant),
            (rollouts.c.phase, phase),
        ):
            if value is not None:
                query = query.where(column == str(value))
        return self._select(query)

    def former_champions(self, model: str) -> dict[str, datetime]:
        """Versions that served as champion in the model's ended rollouts, the newest first; since when each is known."""
        c = rollouts.c
        query = (
            sa.select(c.challenger, c.champion, c.phase, c.created_at)
            .where(c.model == model, ~c.live)
            .order_by(c.created_at.desc(), c.id.desc())
        )
        found: dict[str, datetime] = {}
        with self.db.transaction() as connection:
            for challenger, champion, phase, created_at in connection.execute(query):
                for version in (challenger if phase == Phase.PROMOTED.value else None, champion):
                    if version is not None:
                        found[version] = min(created_at, found.get(version, created_at))
        return found

    def _select(self, query: "sa.Select[tuple[Any]]", *, readable_only: bool = False) -> list[Rollout]:
        with self.db.transaction() as connection:
            states = connection.execute(query).scalars().all()
        found = []
        for state in states:
            try:
                found.append(rollout_from_json(state))
            except ValueError as err:
                if not readable_only:
                    raise
                logger.error("rollout %s can't be read and is left as it is: %s", state.get("id"), err)  # noqa: TRY400
        return found

    def next_id(self, model: str, challenger: str) -> str:
        """A free id for a new rollout, e.g. `digits-v3-2` for the second one of version 3."""
        stem = f"{_slug(model)}-v{_slug(challenger)}-"
        query = sa.select(rollouts.c.id).where(rollouts.c.id.startswith(stem, autoescape=True))
        with self.db.transaction() as connection:
            endings = [known.removeprefix(stem) for known in connection.execute(query).scalars()]
        return f"{stem}{max((int(end) for end in endings if end.isdecimal()), default=0) + 1}"

    def verdicts(self, rollout_id: str) -> dict[str, Verdict]:
        """The newest verdicts by check; empty before the first."""
        query = sa.select(verdicts.c.verdicts).where(verdicts.c.rollout_id == rollout_id)
        with self.db.transaction() as connection:
            return verdicts_from_json(connection.execute(query).scalar_one_or_none() or {})

    def flags(self, rollout_id: str) -> dict[str, bool]:
        """The rollout's feature flags by name; `ff.ab_testing_<id>` and `ff.challenger_<id>`."""
        query = sa.select(flags.c.name, flags.c.enabled).where(flags.c.rollout_id == rollout_id)
        with self.db.transaction() as connection:
            return {row.name: row.enabled for row in connection.execute(query)}

    def set_flags(self, names: Collection[str], *, enabled: bool) -> int:
        """Set several flags in one statement; returns how many exist (MT-03)."""
        change = (
            sa.update(flags).where(flags.c.name.in_(names)).values(enabled=enabled, updated_at=sa.func.now())
        )
        with self.db.transaction() as connection:
            return connection.execute(change).rowcount

    def alerts(self, rollout_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Alerts, newest first: id, at, rollout_id, tenant, model, detail, acknowledged_at, acknowledged_by."""
        query = sa.select(alerts).order_by(alerts.c.id.desc()).limit(limit)
        if rollout_id is not None:
            query = query.where(alerts.c.rollout_id == rollout_id)
        with self.db.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "x"
