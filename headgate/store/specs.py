"""Registered specs: by which rules a model's next challenger is rolled out."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.spec import RolloutSpec
from headgate.store.codec import clean_text, utc_now
from headgate.store.database import Part
from headgate.store.schema import specs


class Specs(Part):
    """One spec per tenant and model; a rollout keeps the one it was started with."""

    def save_spec(self, spec: RolloutSpec, *, actor: str) -> None:
        """Register a spec, in place of the model's former one."""
        row = {
            "tenant": spec.tenant,
            "model": spec.model,
            "spec": spec.model_dump(mode="json", by_alias=True),
            "applied_at": utc_now(),
            "applied_by": clean_text(actor),
        }
        change = insert(specs).values(row).on_conflict_do_update(index_elements=["tenant", "model"], set_=row)
        with self.db.transaction() as connection:
            connection.execute(change)

    def spec_for(self, model: str, tenant: str = "default") -> RolloutSpec | None:
        """The spec registered for a model; None when there is none."""
        query = sa.select(specs.c.spec).where(specs.c.model == model, specs.c.tenant == tenant)
        with self.db.transaction() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else RolloutSpec.model_validate(found)

    def specs(self) -> list[RolloutSpec]:
        """Every registered spec."""
        query = sa.select(specs.c.spec).order_by(specs.c.tenant, specs.c.model)
        with self.db.transaction() as connection:
            return [RolloutSpec.model_validate(found) for found in connection.execute(query).scalars()]
