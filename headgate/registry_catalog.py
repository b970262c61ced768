"""What the registry knows of each version besides its traffic: names, descriptions, metrics, where it came from.

MLflow counts versions from 1. A name of one's own (`v1.1.0`, `2024-12-08-hotfix`) stands in the version's tag
`headgate.version_name`, the rest of what was said when it was registered in tags beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headgate.errors import BadRequestError, HeadgateError, NotFoundError
from headgate.registry_http import RegistryHttp

NAME_TAG = "headgate.version_name"
TITLE_TAG = "headgate.title"
PATH_TAG = "headgate.model_path"
PREPROCESSOR_TAG = "headgate.preprocessor_path"
METRICS_TAG = "headgate.metrics"
TAGS_TAG = "headgate.tags"
CARD_TAG = "headgate.card"
STATUS_TAG = "status"
VERSION_ADDRESS = "models:/"
_PAGE = 200


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """One version as it was registered.

    Attributes:
        number: MLflow's. name: its own name, or the number where it has none. title: what people call it.
        model_path: where it came from. metrics: as told when it was registered, else as its run logged them.
        tags: labels told when it was registered, or the names of its MLflow tags.
        card: the model card's fields that were told.
        ready: False = MLflow is still fetching it, or failed to.
    """

    model: str
    number: str
    name: str
    title: str
    description: str
    created_at: datetime
    updated_at: datetime
    model_path: str
    preprocessor_path: str | None
    metrics: Mapping[str, float]
    tags: tuple[str, ...]
    card: Mapping[str, Any]
    deprecated: bool
    ready: bool


class Catalog:
    """Reads versions; safe to share between threads."""

    def __init__(self, http: RegistryHttp) -> None:
        self._http = http

    def models(self) -> list[str]:
        """Every registered model, sorted, with a champion or without."""
        found, token = [], ""
        while True:
            page = self._http.get("registered-models/search", max_results=_PAGE, page_token=token)
            found += [str(model["name"]) for model in page.get("registered_models", ())]
            token = page.get("next_page_token", "")
            if not token:
                return sorted(found)

    def versions(self, model: str) -> list[CatalogVersion]:
        """Every version of a model, oldest first; none of an unknown one.

        Raises:
            RegistryUnavailableError: MLflow can't be reached.
        """
        quote = "'" if '"' in model else '"'
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._http.get(
                "model-versions/search",
                filter=f"name={quote}{model}{quote}",
                max_results=_PAGE,
                page_token=token,
            )
            found += page.get("model_versions", ())
            token = page.get("next_page_token", "")
            if not token:
                break
        found.sort(key=lambda one: int(one["version"]))
        return [self._read(one) for one in found]

    def find(self, model: str, name: str) -> CatalogVersion:
        """A version by its own name or its number; of two of the same name the older.

        Raises:
            NotFoundError: none is called so.
        """
        found = match(self.versions(model), name)
        if found is None:
            raise NotFoundError("version", name, f"{model} has no version of that name or number")
        return found

    def copy(self, address: str, model: str, *, description: str, tags: Mapping[str, str]) -> None:
        """Register a version that MLflow has already once more, under this model; its files are not copied.

        Args:
            address: `models:/name/3` or `models:/name@alias`. model: made when it is missing.

        Raises:
            NotFoundError: no such version or alias. BadRequestError: not such an address.
        """
        name, mark, which = address.removeprefix(VERSION_ADDRESS).rpartition("@")
        if not mark:
            name, mark, which = address.removeprefix(VERSION_ADDRESS).rpartition("/")
        if not (name and which):
            raise BadRequestError("model_path", address, "be models:/name/version or models:/name@alias")
        asked = {"alias": which} if mark == "@" else {"version": which}
        path = "registered-models/alias" if mark == "@" else "model-versions/get"
        found = self._http.get(path, name=name, **asked)["model_version"]
        if model not in self.models():
            self._http.post("registered-models/create", name=model)
        self._http.post(
            "model-versions/create",
            name=model,
            source=f"{VERSION_ADDRESS}{name}/{found['version']}",
            run_id=found.get("run_id", ""),
            description=description,
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )

    def _read(self, found: Mapping[str, Any]) -> CatalogVersion:
        tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags", ())}
        told = _json(tags.get(METRICS_TAG), dict)
        own = [key for key in tags if not key.startswith(("headgate.", "mlflow.")) and key != STATUS_TAG]
        return CatalogVersion(
            model=found["name"],
            number=str(found["version"]),
            name=tags.get(NAME_TAG) or str(found["version"]),
            title=tags.get(TITLE_TAG) or found["name"],
            description=found.get("description", ""),
            created_at=_moment(found.get("creation_timestamp")),
            updated_at=_moment(found.get("last_updated_timestamp") or found.get("creation_timestamp")),
            model_path=tags.get(PATH_TAG) or found.get("source", ""),
            preprocessor_path=tags.get(PREPROCESSOR_TAG) or None,
            metrics=told if METRICS_TAG in tags else self._logged(found.get("run_id")),
            tags=tuple(_json(tags.get(TAGS_TAG), list) if TAGS_TAG in tags else own),
            card=_json(tags.get(CARD_TAG), dict),
            deprecated=tags.get(STATUS_TAG, "").lower() == "deprecated",
            ready=found.get("status", "READY") == "READY",
        )

    def _logged(self, run_id: str | None) -> dict[str, float]:
        """What the version's run logged last; nothing where there is no such run any more."""
        if not run_id:
            return {}
        try:
            run = self._http.get("runs/get", run_id=run_id)["run"]
        except HeadgateError:
            return {}
        return {one["key"]: float(one["value"]) for one in run.get("data", {}).get("metrics", ())}


def match(versions: list[CatalogVersion], name: str) -> CatalogVersion | None:
    """The version of this name, else of this number."""
    named = (one for one in versions if one.name == name)
    return next(named, None) or next((one for one in versions if one.number == name), None)


def _json(text: str | None, kind: type[Any]) -> Any:
    try:
        found = json.loads(text or "null")
    except ValueError:
        found = None
    return found if isinstance(found, kind) else kind()


def _moment(milliseconds: object) -> datetime:
    return datetime.fromtimestamp(int(str(milliseconds or 0)) / 1000.0, UTC)
