"""How each model is watched, which days must not be trained on, and the switches of the automation."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.monitoring import MonitoringSpec
from headgate.errors import BadRequestError, NotFoundError
from headgate.store import audit
from headgate.store.codec import clean_text, utc_now
from headgate.store.database import Part
from headgate.store.retraining_tables import monitoring_specs, quarantines
from headgate.store.schema import flags

GLOBAL = ""
"""The `rollout_id` of a flag that is no rollout's."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Days of a model's log that must not be trained on: whole days of UTC, `first` and `last` included."""

    id: int
    tenant: str
    model: str
    first: date
    last: date
    reason: str
    by: str
    at: datetime
    lifted_at: datetime | None = None
    lifted_by: str | None = None


@dataclass(frozen=True, slots=True)
class _About:
    """What an audit record is about that is no rollout."""

    id: str
    tenant: str
    model: str


class Monitoring(Part):
    """One monitoring spec per tenant and model; quarantines; flags that are no rollout's."""

    def save_monitoring_spec(self, spec: MonitoringSpec, *, actor: str) -> None:
        """Register a spec, in place of the former one; who did it stands in the audit."""
        plain = spec.model_dump(mode="json", by_alias=True)
        row = {
            "tenant": spec.tenant,
            "model": spec.model,
            "spec": plain,
            "applied_at": utc_now(),
            "applied_by": clean_text(actor),
        }
        change = insert(monitoring_specs).values(row)
        change = change.on_conflict_do_update(index_elements=["tenant", "model"], set_=row)
        about = _About(f"monitoring:{spec.model}", spec.tenant, spec.model)
        with self.db.transaction() as connection:
            connection.execute(change)
            said = f"mode {spec.mode}"
            audit.append(connection, about, "monitoring_spec", actor=actor, reason=said, body={"spec": plain})

    def monitoring_spec(self, tenant: str, model: str) -> MonitoringSpec | None:
        """The spec of a model; None when there is none."""
        found = self._monitored(monitoring_specs.c.tenant == tenant, monitoring_specs.c.model == model)
        return found[0] if found else None

    def monitoring_times(self) -> dict[tuple[str, str], datetime]:
        """(tenant, model) -> when its spec was last applied."""
        c = monitoring_specs.c
        with self.db.transaction() as connection:
            rows = connection.execute(sa.select(c.tenant, c.model, c.applied_at))
            return {(row.tenant, row.model): row.applied_at for row in rows}

    def monitoring_specs(self, model: str | None = None) -> list[MonitoringSpec]:
        """Every spec, or every tenant's of one model, in the order of tenant and model."""
        wanted = [] if model is None else [monitoring_specs.c.model == model]
        return self._monitored(*wanted)

    def _monitored(self, *wanted: "sa.ColumnElement[bool]") -> list[MonitoringSpec]:
        query = sa.select(monitoring_specs.c.spec).where(*wanted)
        query = query.order_by(monitoring_specs.c.tenant, monitoring_specs.c.model)
        with self.db.transaction() as connection:
            return [MonitoringSpec.model_validate(spec) for spec in connection.execute(query).scalars()]

    def quarantine(
        self,
        tenant: str,
        model: str,
        first: date,
        last: date,
        reason: str,
        by: str,
        *,
        again: bool = False,
    ) -> bool:
        """Keep days out of training; asked twice, it is one quarantine.

        Args:
            tenant: whose model. model: which.
            first: the first day, a date of UTC. last: the last one, included.
            reason: why, one sentence. by: who says so.
            again: also where somebody has lifted the very same days before, which the automation does not overrule.

        Returns:
            True when it is in force now and was not before.

        Raises:
            BadRequestError: the days are in the wrong order.
        """
        if last < first:
            raise BadRequestError("last", last.isoformat(), f"not be before first, {first.isoformat()}")
        row = {
            "tenant": tenant,
            "model": model,
            "first": first,
            "last": last,
            "reason": clean_text(reason),
            "by": clean_text(by),
            "at": utc_now(),
            "lifted_at": None,
            "lifted_by": None,
        }
        change = insert(quarantines).values(row)
        key = ["tenant", "model", "first", "last"]
        if again:
            lifted = quarantines.c.lifted_at.is_not(None)
            change = change.on_conflict_do_update(index_elements=key, set_=row, where=lifted)
        else:
            change = change.on_conflict_do_nothing(index_elements=key)
        about = _About(f"quarantine:{model}", tenant, model)
        with self.db.transaction() as connection:
            new = connection.execute(change.returning(quarantines.c.id)).first() is not None
            if new:
                body = {"first": first.isoformat(), "last": last.isoformat()}
                audit.append(connection, about, "quarantine", actor=by, reason=reason, body=body)
        return new

    def quarantines(
        self,
        tenant: str | None = None,
        model: str | None = None,
        first: date | None = None,
        last: date | None = None,
        *,
        lifted: bool = False,
    ) -> list[Quarantine]:
        """Quarantines in force, the oldest days first; with dates, those that touch them; `lifted` adds former ones."""
        query = sa.select(quarantines).order_by(quarantines.c.first, quarantines.c.id)
        if tenant is not None:
            query = query.where(quarantines.c.tenant == tenant)
        if model is not None:
            query = query.where(quarantines.c.model == model)
        if first is not None:
            query = query.where(quarantines.c.last >= first)
        if last is not None:
            query = query.where(quarantines.c.first <= last)
        if not lifted:
            query = query.where(quarantines.c.lifted_at.is_(None))
        with self.db.transaction() as connection:
            return [Quarantine(**row) for row in connection.execute(query).mappings()]

    def lift_quarantine(self, quarantine_id: int, *, by: str, reason: str) -> Quarantine:
        """Let the days be trained on again; lifting twice changes nothing.

        Raises:
            NotFoundError: no such quarantine.
        """
        with self.db.transaction() as connection:
            query = sa.select(quarantines).where(quarantines.c.id == quarantine_id).with_for_update()
            found = connection.execute(query).mappings().one_or_none()
            if found is None:
                raise NotFoundError("quarantine", str(quarantine_id), "see `headgate quarantine list`")
            known = Quarantine(**found)
            if known.lifted_at is not None:
                return known
            now = utc_now()
            change = sa.update(quarantines).where(quarantines.c.id == quarantine_id)
            connection.execute(change.values(lifted_at=now, lifted_by=clean_text(by)))
            about = _About(f"quarantine:{known.model}", known.tenant, known.model)
            body = {"first": known.first.isoformat(), "last": known.last.isoformat()}
            audit.append(connection, about, "quarantine_lifted", actor=by, reason=reason, body=body)
        return Quarantine(**{**found, "lifted_at": now, "lifted_by": by})

    def flag(self, name: str) -> bool | None:
        """A flag by its name; None when it was never set."""
        query = sa.select(flags.c.enabled).where(flags.c.name == name)
        with self.db.transaction() as connection:
            return connection.execute(query).scalar_one_or_none()

    def flags_of(self, name: str) -> dict[str, bool]:
        """A flag and every tenant's own of it (`NAME:tenant`), by name."""
        own = flags.c.name.startswith(f"{name}:", autoescape=True)
        query = sa.select(flags.c.name, flags.c.enabled).where(sa.or_(flags.c.name == name, own))
        with self.db.transaction() as connection:
            return {row.name: row.enabled for row in connection.execute(query)}

    def all_flags(self) -> dict[str, bool]:
        """Every flag, rollouts' own included, by name."""
        query = sa.select(flags.c.name, flags.c.enabled).order_by(flags.c.name)
        with self.db.transaction() as connection:
            return {row.name: row.enabled for row in connection.execute(query)}

    def switch_flags(
        self, names: Collection[str], *, enabled: bool, actor: str, reason: str = ""
    ) -> list[str]:
        """Set several flags in one transaction, making those that are new; returns the names that changed (MT-03).

        Raises:
            BadRequestError: a name is empty, or of a rollout that there is not.
        """
        changed = []
        with self.db.transaction() as connection:
            for name in sorted(set(names)):
                _check_name(name)
                before = connection.execute(
                    sa.select(flags.c.enabled).where(flags.c.name == name).with_for_update()
                ).scalar_one_or_none()
                if before is None and name.startswith("ff."):
                    raise NotFoundError("flag", name, "`headgate flag list` shows what there is")
                if before == enabled:
                    continue
                row = {"name": name, "rollout_id": GLOBAL, "enabled": enabled}
                kept = {"enabled": enabled, "updated_at": sa.func.now()}
                change = insert(flags).values(row).on_conflict_do_update(index_elements=["name"], set_=kept)
                connection.execute(change)
                changed.append(name)
            for name in changed:
                tenant = name.partition(":")[2] or "default"
                said = f"{name} is {'on' if enabled else 'off'}" + (f": {reason}" if reason else "")
                audit.append(
                    connection,
                    _About(f"flag:{name}", tenant, ""),
                    "flag",
                    actor=actor,
                    reason=said,
                    body={"name": name, "enabled": enabled},
                )
        return changed


def _check_name(name: str) -> None:
    if not name.strip() or name != clean_text(name):
        raise BadRequestError("flag", name, "be a name, e.g. ENABLE_AUTO_RETRAIN or ENABLE_AUTO_RETRAIN:acme")
