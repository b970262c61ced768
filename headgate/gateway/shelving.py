"""Versions loaded and unloaded because a person says so, in every gateway that follows the registry.

The wish stands in the registry (the tag `headgate.shelf`), so workers, other machines and a restart follow it too.
"""

import time

from headgate.core.rollout import RegistryView
from headgate.errors import BadRequestError, ConflictError
from headgate.gateway.listing import Listing
from headgate.gateway.weights import followed, tell
from headgate.registry_catalog import CatalogVersion

WAIT_S = 50.0
"""How long a load is waited for before the caller is told that it goes on."""
_ATTEMPTS = 5


def load(listing: Listing, one: CatalogVersion, *, actor: str, why: str) -> bool:
    """Bring a version into memory and keep it there; True once this gateway has it, False when it still loads.

    Raises:
        BadRequestError: it can't be loaded, or MLflow is not done with it.
    """
    if not one.ready:
        raise BadRequestError("version", one.name, "be READY in MLflow")
    shelf, model = listing.gateway.shelf, listing.model
    with listing.recorded("registry_load", actor, why, {"version": one.name, "mlflow_version": one.number}):
        _wish(listing, one.number, wanted=True)
        tell(listing.gateway, model)
        deadline = time.monotonic() + WAIT_S
        while shelf.get(model, one.number) is None:
            reason = shelf.failure(model, one.number)
            if reason is not None:
                raise BadRequestError("version", one.name, f"be loadable: {reason}")
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


def unload(listing: Listing, one: CatalogVersion, *, actor: str, why: str) -> None:
    """Put a version out of memory; its requests under way are finished.

    Raises:
        ConflictError: it serves, or a rollout may need it at any moment.
    """
    _refuse_needed(listing, one)
    with listing.recorded("registry_unload", actor, why, {"version": one.name, "mlflow_version": one.number}):
        _wish(listing, one.number, wanted=False)
        if listing.view.champion is None:
            listing.gateway.shelf.drop(listing.model, [one.number])
        tell(listing.gateway, listing.model)


def _refuse_needed(listing: Listing, one: CatalogVersion) -> None:
    gateway = listing.gateway
    view, route = listing.view, gateway.routes.get(listing.model)
    share = followed(route).get(one.number, 0.0)
    serving = gateway.service.serving(listing.model)
    named = route is not None and one.number in route.named_versions
    if named or share > 0 or (serving is not None and serving.version == one.number):
        role = "the champion" if one.number == view.champion else f"at {share:g} % of the traffic"
        hint = "move its traffic first: POST /registry/ab-test/weights"
        raise ConflictError(f"unload of {one.name}", "a version without traffic or alias", role, hint)
    live = next((item for item in gateway.services.store.live() if item.model == listing.model), None)
    if live is not None and one.number in (live.champion, live.challenger):
        raise ConflictError(
            f"unload of {one.name}", "a version that no rollout needs", live.id, "wait for its end"
        )


def _wish(listing: Listing, number: str, *, wanted: bool) -> RegistryView:
    """Write the wish; read back, since another gateway may have written one at the same moment."""
    registry, model = listing.gateway.services.registry, listing.model
    for _ in range(_ATTEMPTS):
        listing.refresh()
        view = listing.view
        if view.shelf.get(number) is wanted:
            return view
        known = {version.number for version in listing.versions}
        kept = {version: wish for version, wish in view.shelf.items() if version in known}
        registry.set_shelf(model, kept | {number: wanted})
    raise ConflictError(
        f"shelf of {model}", f"version {number} {'in' if wanted else 'out of'} memory", "another wish"
    )
