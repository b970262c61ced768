"""The MLflow registry: who gets traffic is what its aliases and one tag say, nothing else.

Spoken to by its REST API: MLflow's own client retries a dead server for minutes, has one timeout for a question and for an
upload, and takes seconds to import. Model files are fetched by MLflow's client, which knows every artifact store.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from headgate.core.rollout import RegistryTarget, RegistryView
from headgate.core.routing.split import Split, decode_split, encode_split
from headgate.errors import BadRequestError, ConflictError, NotFoundError, RegistryUnavailableError
from headgate.registry_catalog import Catalog
from headgate.registry_files import has_signature, model_folder
from headgate.registry_http import RegistryHttp

SPLIT_TAG = "headgate.split"
SHELF_TAG = "headgate.shelf"
CHAMPION, CHALLENGER, SHADOW, HOLDBACK = "champion", "challenger", "shadow", "holdback"

_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,256}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_PAGE = 200


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A version that may be rolled out. `aliases` are the names that point at it now."""

    model: str
    version: str
    has_signature: bool
    run_id: str | None
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """Reads and writes aliases and the split; safe to share between threads."""

    def __init__(self, tracking_uri: str, *, timeout_s: float = 3) -> None:
        """Connects at the first call, not here.

        Args:
            tracking_uri: `http(s)://…` of the MLflow server.
            timeout_s: how long one request may take.
        """
        self.tracking_uri = tracking_uri.rstrip("/")
        self._http = RegistryHttp(self.tracking_uri, timeout_s=timeout_s)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def view(self, model: str) -> RegistryView:
        """What the registry shows now, by one request.

        Raises:
            NotFoundError: no such model.
            RegistryUnavailableError: MLflow can't be reached.
        """
        found = self._http.get("registered-models/get", name=model)["registered_model"]
        return _read_view(found)

    def sync(
        self,
        model: str,
        target: RegistryTarget,
        *,
        expected: RegistryView | None,
        on_written: Callable[[RegistryView], object] = lambda _: None,
    ) -> RegistryView:
        """Drive aliases and split to the target; writes nothing that is already so.

        The champion moves before the challenger loses its name, and a challenger loses its weight before its name: at no
        point is there a key without a version, and no key goes back and forth. A hold-back gets its name and its share
        before the champion moves, so whoever was with the old champion stays there; it loses both at the end.

        Args:
            expected: what the caller last saw. Every part of the registry must be as there or as in the target, which a
                killed earlier attempt leaves behind. None = whatever is there is overwritten.
            on_written: called once everything is written, before it is read back, with what was written; never when
                nothing had to be.

        Returns:
            What is shown afterwards, read back.

        Raises:
            ConflictError: somebody else changed it, before or in between.
            NotFoundError: no such model or version.
            BadRequestError: the split can't be written; nothing was changed.
            RegistryUnavailableError: MLflow can't be reached; a part may have been written, call again.
        """
        seen = self.view(model)
        if shows(seen, target):
            return seen
        if expected is not None:
            _refuse_foreign(model, seen, expected, target)
        on_written(self._write(model, seen, target))
        after = self.view(model)
        if not shows(after, target):
            raise ConflictError(
                f"registry of {model}", describe(target), describe(after), "it changed meanwhile"
            )
        return after

    def _write(self, model: str, seen: RegistryView, target: RegistryTarget) -> RegistryView:
        revision = max(seen.split.revision if seen.split else 0, target.split.revision) + 1
        bridge = _bridge(seen.split, target.split) if seen.champion != target.champion else None
        # Both are encoded before anything is written.
        tags = [_encode(replace(bridge, revision=revision))] if bridge else []
        final = replace(target.split, revision=revision + len(tags))
        last = _encode(final)
        if target.holdback is not None:
            self._set_alias(model, HOLDBACK, seen.holdback, target.holdback)
        if bridge is not None and not _same_split(seen, bridge):
            self._set_split(model, tags[0])
        self._set_alias(model, CHAMPION, seen.champion, target.champion)
        changed = not _same_split(seen, target.split)
        if changed:
            self._set_split(model, last)
        self._set_alias(model, CHALLENGER, seen.challenger, target.challenger)
        self._set_alias(model, SHADOW, seen.shadow, target.shadow)
        if target.holdback is None:
            self._set_alias(model, HOLDBACK, seen.holdback, None)
        names = target.champion, target.challenger, target.shadow
        return RegistryView(
            *names, final if changed else seen.split, holdback=target.holdback, shelf=seen.shelf
        )

    def _set_split(self, model: str, value: str) -> None:
        self._http.post("registered-models/set-tag", name=model, key=SPLIT_TAG, value=value)

    def _set_alias(self, model: str, alias: str, found: str | None, wanted: str | None) -> None:
        if found == wanted:
            return
        if wanted is None:
            self._http.delete("registered-models/alias", name=model, alias=alias)
        else:
            self._http.post("registered-models/alias", name=model, alias=alias, version=wanted)

    def offer_challenger(self, model: str, version: str) -> str | None:
        """Name a version challenger unless another one has that name; returns that other one, None = it is named.

        Raises:
            NotFoundError: no such model or version. RegistryUnavailableError: MLflow can't be reached.
        """
        holder = self.view(model).challenger
        if holder is not None and holder != version:
            return holder
        self._set_alias(model, CHALLENGER, holder, version)
        return None

    def check_version(self, model: str, version: str) -> VersionFacts:
        """A version that exists, is ready and has a signature.

        Raises:
            NotFoundError: no such model or version.
            BadRequestError: not a version number, not ready, or without a signature.
            RegistryUnavailableError: MLflow or its artifact store can't be reached.
        """
        facts = self._version(model, version)
        if facts.get("status", "READY") != "READY":
            raise BadRequestError(
                "version", f"{model} {version}", f"be READY in MLflow, is {facts['status']}"
            )
        signed = has_signature(self.tracking_uri, model, version)
        if not signed:
            rule = "have a signature; log it with mlflow.<flavor>.log_model(..., signature=infer_signature(X, y))"
            raise BadRequestError("version", f"{model} {version}", rule)
        return VersionFacts(
            model=model,
            version=version,
            has_signature=signed,
            run_id=facts.get("run_id") or None,
            aliases=tuple(facts.get("aliases", ())),
            tags={tag["key"]: tag["value"] for tag in facts.get("tags", ())},
        )

    def resolve(self, model: str, version_or_alias: str) -> str:
        """The version number that a person means by `3` or `challenger`.

        Raises:
            BadRequestError: can't be either. NotFoundError: nothing is called so.
        """
        if version_or_alias.isdecimal():
            return version_or_alias
        if not _ALIAS.fullmatch(version_or_alias) or _RESERVED_ALIAS.fullmatch(version_or_alias):
            rule = "be a version number or an alias of letters, digits, - and _ (not latest, not v1)"
            raise BadRequestError("version", version_or_alias, rule)
        found = self._http.get("registered-models/get", name=model)["registered_model"]
        aliases = _aliases(found)
        if version_or_alias not in aliases:
            hint = f"it has {', '.join(sorted(aliases)) or 'no alias'}"
            raise NotFoundError("alias", f"{model}@{version_or_alias}", hint)
        return aliases[version_or_alias]

    def served_models(self) -> list[str]:
        """The models that have a champion, sorted."""
        return sorted(self.views())

    def views(self) -> dict[str, RegistryView]:
        """What the registry shows for every model that has a champion, in one request per 200 models."""
        found: dict[str, RegistryView] = {}
        token = ""
        while True:
            page = self._http.get("registered-models/search", max_results=_PAGE, page_token=token)
            for model in page.get("registered_models", ()):
                view = _read_view(model)
                if view.champion is not None:
                    found[model["name"]] = view
            token = page.get("next_page_token", "")
            if not token:
                return found

    def download(self, model: str, version: str, folder: Path) -> Path:
        """The folder with the version's model files, fetched once; a half download is never seen.

        With MLflow away, files fetched earlier are used.

        Raises:
            NotFoundError: no such version. RegistryUnavailableError: can't be fetched and is not there yet.
        """
        try:
            created: object = self._version(model, version).get("creation_timestamp", 0)
        except RegistryUnavailableError:
            created = None
        return model_folder(self.tracking_uri, model, version, created, folder)

    def version_tags(self, model: str, version: str) -> dict[str, str]:
        """The version's own tags.

        Raises:
            NotFoundError: no such version. RegistryUnavailableError: MLflow can't be reached.
        """
        tags = self._version(model, version).get("tags", ())
        return {tag["key"]: tag.get("value", "") for tag in tags}

    @cached_property
    def catalog(self) -> Catalog:
        """What the registry knows of each version besides its traffic."""
        return Catalog(self._http)

    def set_shelf(self, model: str, shelf: Mapping[str, bool]) -> None:
        """Say which versions are wanted in memory (True) or out of it (False) whatever their traffic."""
        value = json.dumps(dict(shelf), separators=(",", ":"))
        self._http.post("registered-models/set-tag", name=model, key=SHELF_TAG, value=value)

    def _version(self, model: str, version: str) -> dict[str, Any]:
        if not (version.isdecimal() and version.isascii()) or int(version) < 1:
            raise BadRequestError("version", version, "be a version number, 1 or more")
        found: dict[str, Any] = self._http.get("model-versions/get", name=model, version=version)[
            "model_version"
        ]
        return found


def shows(view: RegistryView, target: RegistryTarget) -> bool:
    """True if the registry is as the target says; the split's revision does not count."""
    return _names(view) == _names(target) and _same_split(view, target.split)


def _names(state: RegistryView | RegistryTarget) -> tuple[str | None, ...]:
    return state.champion, state.challenger, state.shadow, state.holdback


def describe(state: RegistryView | RegistryTarget) -> str:
    """One line: `champion 1, challenger 2 at 5 %, shadow none`."""
    weights = dict(state.split.weights) if state.split else {}
    share = f" at {weights[state.challenger]:g} %" if state.challenger in weights else ""
    unreadable = getattr(state, "split_error", None)
    return (
        f"champion {state.champion or 'none'}, challenger {state.challenger or 'none'}{share}, "
        f"shadow {state.shadow or 'none'}"
        + (f", hold-back {state.holdback}" if state.holdback else "")
        + (f", split unreadable ({unreadable})" if unreadable else "")
    )


def _refuse_foreign(model: str, seen: RegistryView, expected: RegistryView, target: RegistryTarget) -> None:
    named = zip(_names(seen), _names(expected), _names(target), strict=True)
    aliases = all(shown in (before, after) for shown, before, after in named)
    bridge = _bridge(expected.split, target.split)
    split = _same_split(seen, target.split) or _as_expected(seen, expected)
    if not (aliases and (split or (bridge is not None and _same_split(seen, bridge)))):
        hint = "somebody else changed it: adopt it or put it back"
        raise ConflictError(f"registry of {model}", describe(expected), describe(seen), hint)


def _as_expected(seen: RegistryView, expected: RegistryView) -> bool:
    if expected.split is None:
        return seen.split is None and (seen.split_error is None) == (expected.split_error is None)
    return _same_split(seen, expected.split)


def _bridge(shown: Split | None, wanted: Split) -> Split | None:
    """The split that is right before the champion moves and after: the challenger's weight beside the hold-back.

    None where there is no hold-back, or no challenger of the same rollout whose weight has to stay until then.
    """
    if shown is None or not wanted.holdback or shown.rollout_id != wanted.rollout_id:
        return None
    if len(shown.weights) != 1:
        return None
    room = 100.0 - sum(wanted.holdback.values())
    return replace(wanted, weights={name: min(weight, room) for name, weight in shown.weights.items()})


def _same_split(view: RegistryView, wanted: Split) -> bool:
    return view.split is not None and _as_read(view.split) == _as_read(wanted)


def _as_read(split: Split) -> Split:
    """Plain containers, whatever the caller used, and without the revision."""
    return replace(
        split,
        revision=0,
        weights=dict(split.weights),
        holdback=dict(split.holdback),
        excluded={column: tuple(values) for column, values in split.excluded.items()},
    )


def _encode(split: Split) -> str:
    try:
        return encode_split(split)
    except ValueError as err:
        raise BadRequestError("split", dict(split.weights), f"be readable: {err}") from err


def _aliases(model: Mapping[str, Any]) -> dict[str, str]:
    return {entry["alias"]: str(entry["version"]) for entry in model.get("aliases", ())}


def _read_view(model: Mapping[str, Any]) -> RegistryView:
    aliases = _aliases(model)
    tags = {tag["key"]: tag.get("value", "") for tag in model.get("tags", ())}
    split, problem = None, None
    if SPLIT_TAG in tags:
        try:
            split = decode_split(tags[SPLIT_TAG])
        except ValueError as err:
            problem = str(err)
    return RegistryView(
        champion=aliases.get(CHAMPION),
        challenger=aliases.get(CHALLENGER),
        shadow=aliases.get(SHADOW),
        split=split,
        split_error=problem,
        holdback=aliases.get(HOLDBACK),
        shelf=_read_shelf(tags.get(SHELF_TAG, "")),
    )


def _read_shelf(text: str) -> dict[str, bool]:
    """What can't be read keeps nothing in memory and sends nothing out of it."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    shelf = found if isinstance(found, dict) else {}
    return {str(version): wanted for version, wanted in shelf.items() if isinstance(wanted, bool)}
