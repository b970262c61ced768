"""One model's versions in the documents' words, as the MLflow registry shows them now."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from headgate.core.rollout import RegistryView
from headgate.errors import (
    BadRequestError,
    HeadgateError,
    NotFoundError,
    RegistryUnavailableError,
)
from headgate.gateway.gateway import Gateway
from headgate.gateway.weights import follow, followed
from headgate.registry_catalog import CatalogVersion, match

log = logging.getLogger(__name__)

CARD_FIELDS = ("training_data", "hyperparameters", "known_issues", "rollback_procedure")
_WRITER = "headgate"


class Status(StrEnum):
    """The documents' words for where a version stands."""

    ACTIVE = "active"
    """The champion."""
    TESTING = "testing"
    """Holds the alias challenger, shadow or holdback, or a weight."""
    INACTIVE = "inactive"
    DEPRECATED = "deprecated"
    """Gets nothing, and its MLflow tag `status` says so."""


class Listing:
    """A model's versions, what they are called and what traffic they get.

    Args:
        model: the registered model.

    Raises:
        NotFoundError: this gateway does not serve that model.
    """

    def __init__(self, gateway: Gateway, model: str) -> None:
        if gateway.only is not None and model not in gateway.only:
            raise NotFoundError("model", model, f"this gateway serves {', '.join(sorted(gateway.only))}")
        self.gateway, self.model = gateway, model

    @cached_property
    def versions(self) -> list[CatalogVersion]:
        """Every version, the oldest first."""
        found = self.gateway.services.registry.catalog.versions(self.model)
        self.gateway.version_names[self.model] = {one.number: one.name for one in found}
        return found

    @cached_property
    def view(self) -> RegistryView:
        """What the registry shows now, which this gateway follows from here on; nothing for an unknown model."""
        asked_at = time.monotonic()
        try:
            view = self.gateway.services.registry.view(self.model)
        except NotFoundError:
            return RegistryView(None, None, None, None)
        follow(self.gateway, self.model, view, asked_at)
        return view

    def refresh(self) -> None:
        """Forget what was read."""
        for name in ("versions", "view"):
            self.__dict__.pop(name, None)

    def find(self, name: str) -> CatalogVersion:
        """A version by its own name or its number.

        Raises:
            NotFoundError: none is called so.
        """
        found = match(self.versions, name)
        if found is None:
            raise NotFoundError("version", name, f"{self.model} has no version of that name or number")
        return found

    def numbers(self, percents: Mapping[str, float]) -> dict[str, float]:
        """Weights by version number.

        With MLflow away the names are those that were seen last, so that the way back to the champion stays open.

        Raises:
            NotFoundError: an unknown version.
            BadRequestError: one stands twice, is deprecated or not ready.
        """
        seen = self.gateway.version_names.get(self.model, {})
        known = {name: name for name in seen} | {name: number for number, name in seen.items()}
        route = self.gateway.routes.get(self.model)
        if route is not None and [known.get(name) for name in percents] == [route.champion]:
            # The way back is not held up by an MLflow that hangs.
            return {known[name]: share for name, share in percents.items()}
        try:
            found = {name: self.find(name) for name in percents}
        except RegistryUnavailableError:
            if not percents.keys() <= known.keys():
                raise
            return {known[name]: share for name, share in percents.items()}
        for name, one in found.items():
            if percents[name] > 0 and (one.deprecated or not one.ready):
                problem = (
                    "not be deprecated (its MLflow tag `status` says so)"
                    if one.deprecated
                    else "be READY in MLflow"
                )
                raise BadRequestError("version", name, problem)
        numbers = [one.number for one in found.values()]
        if len(set(numbers)) < len(numbers):
            raise BadRequestError(
                "weights", ", ".join(found), "name each version once, by its name or its number"
            )
        return {found[name].number: share for name, share in percents.items()}

    def all(self) -> list[dict[str, Any]]:
        """Every version's metadata."""
        return [self.describe(one) for one in self.versions]

    def describe(self, one: CatalogVersion) -> dict[str, Any]:
        """A version's metadata, as the documents answer it."""
        return {
            "version": one.name,
            "name": one.title,
            "description": one.description,
            "created_at": one.created_at.isoformat(),
            "updated_at": one.updated_at.isoformat(),
            "status": self._status(one).value,
            "model_path": one.model_path,
            "preprocessor_path": one.preprocessor_path,
            "metrics": dict(one.metrics),
            "tags": list(one.tags),
            "traffic_weight": self._shares.get(one.number, 0.0) / 100.0,
            "model": one.model,
            "mlflow_version": one.number,
            "loaded": one.number in self.gateway.shelf.loaded(self.model),
            **{name: one.card[name] for name in CARD_FIELDS if name in one.card},
        }

    def weights(self) -> dict[str, float]:
        """Version name -> share of the traffic, 0.0-1.0; those without any are not named."""
        return {self._names.get(number, number): share / 100.0 for number, share in self._shares.items()}

    def loaded(self) -> list[str]:
        """The versions in this gateway's memory, by name."""
        return [self._names.get(number, number) for number in self.gateway.shelf.loaded(self.model)]

    @property
    def rollout_id(self) -> str | None:
        """Whose split is followed; None = set by hand, or none."""
        route = self.gateway.routes.get(self.model)
        return route.split.rollout_id if route else None

    @contextmanager
    def recorded(self, kind: str, actor: str, why: str, body: Mapping[str, Any]) -> Iterator[None]:
        """Write into the audit what is about to be done, and that it failed if it does.

        Raises:
            StoreUnavailableError: it can't be written; then nothing was done.
        """
        store, tenant = self.gateway.services.store, self.gateway.tenant
        store.record_registry(self.model, tenant, kind, actor=actor, reason=why, body=body)
        try:
            yield
        except Exception as err:
            failed = {**body, "problem": f"{err}"[:1000]}
            store.record_registry(self.model, tenant, f"{kind}_failed", actor=actor, reason=why, body=failed)
            raise

    def write_copy(self) -> None:
        """Keep a readable copy of the registry where `MODEL_REGISTRY_PATH` says; nothing reads it.

        A file that headgate did not write stays as it is. What goes wrong is logged: the copy is a convenience.
        """
        path = self.gateway.services.settings.model_registry_path
        try:
            kept: Any = json.loads(path.read_text()) if path.exists() else {"written_by": _WRITER}
            if kept.get("written_by") != _WRITER:
                log.warning(
                    "%s was not written by headgate and stays as it is; set MODEL_REGISTRY_PATH", path
                )
                return
            models = {**kept.get("models", {}), self.model: self.all()}
            text = {"written_by": _WRITER, "at": datetime.now(UTC).isoformat(), "models": models}
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}.part")
            fresh.write_text(json.dumps(text, indent=2) + "\n")
            fresh.replace(path)
        except (OSError, ValueError, AttributeError, TypeError, HeadgateError) as err:
            log.warning("%s could not be written: %s", path, err)

    @property
    def _names(self) -> Mapping[str, str]:
        """Number -> name, as seen last when MLflow is away."""
        try:
            _ = self.versions
        except RegistryUnavailableError as err:
            log.warning("%s", err)
        return self.gateway.version_names.get(self.model, {})

    @property
    def _shares(self) -> Mapping[str, float]:
        try:
            _ = self.view
        except RegistryUnavailableError as err:
            log.warning("%s", err)
        return followed(self.gateway.routes.get(self.model))

    def _status(self, one: CatalogVersion) -> Status:
        view = self.view
        if one.number == view.champion:
            return Status.ACTIVE
        if one.number in (view.challenger, view.shadow, view.holdback) or self._shares.get(one.number):
            return Status.TESTING
        return Status.DEPRECATED if one.deprecated else Status.INACTIVE
