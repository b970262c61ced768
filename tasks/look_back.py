"""Former champions: each model looked at, and what was found."""

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from headgate.retraining import looking_back
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def look_back_at_all(model: str | None, tenant: str | None) -> list[looking_back.LookedBack]:
    """Offer a former champion wherever one is proven better."""
    return looking_back.look_back(parts(), model=model, tenant=tenant)


@task(cache_policy=NO_CACHE)
def tell_look_back(found: Sequence[looking_back.LookedBack]) -> None:
    """Write the artifact that says of each model what was found."""
    table = [{"tenant": one.tenant, "model": one.model, "found": one.sentence} for one in found]
    create_table_artifact(table, key="former-champions")
