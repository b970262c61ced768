"""Which split each model follows now: what the registry showed last, minus what was cut off since."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headgate.core.rollout import RegistryView
from headgate.core.routing.split import (
    HOLDBACK,
    Assignment,
    Reason,
    Split,
    assign,
    decode_split,
    encode_split,
    hold_frozen,
    pieces,
    without,
)
from headgate.store.rows import same_text

log = logging.getLogger(__name__)

Cut = tuple[str, str]
"""(rollout id, version)."""
Replaced = tuple[str | None, str]
"""(rollout id or None, version)."""


@dataclass(frozen=True)
class Route:
    """One model's way, immutable: a request reads it once and is answered by it whatever changes meanwhile.

    Attributes:
        champion: the version that gets what no arm claims; None before there ever was one.
        split: as followed: cutoffs applied, growth held back while frozen.
        alarm: what is wrong with the registry's entry; traffic is then the champion's alone.
        since: when this came to be followed, aware UTC. source: `registry`, `notify` or `file`.
        holdback: who holds the alias holdback.
        replaced: the champion before this one, and the rollout under which it was replaced.
        undone: the version that the registry still names champion although it was cut off; `champion` is then the one
            it had replaced.
        shelf: version -> True when a person wants it in memory, False when out of it, whatever its traffic.
    """

    model: str
    champion: str | None
    challenger: str | None
    shadow: str | None
    split: Split
    alarm: str | None
    cut: bool
    since: datetime
    source: str
    holdback: str | None = None
    replaced: Replaced | None = None
    undone: str | None = None
    shelf: Mapping[str, bool] = field(default_factory=dict)

    @property
    def named(self) -> str | None:
        """Who holds the alias champion."""
        return self.undone or self.champion

    @property
    def versions(self) -> list[str]:
        """What must be in memory, the champion first; its predecessor stays for an instant undo."""
        before = self.replaced[1] if self.replaced else None
        spare = [*self.shelf, *([before] if before else [])]
        kept = [version for version in spare if self.shelf.get(version, True)]
        return list(dict.fromkeys((*self.named_versions, *kept)))

    @property
    def named_versions(self) -> list[str]:
        """What the registry names by an alias or gives traffic, the champion first."""
        named = (self.champion, self.challenger, self.shadow, self.holdback, self.undone, *sorted(self.live))
        return list(dict.fromkeys(version for version in named if version))

    @cached_property
    def live(self) -> frozenset[str]:
        """Who may answer beside the champion: the holder of the alias challenger, and in a split that belongs to no
        rollout whomever it names."""
        named = {self.challenger} if self.challenger else set()
        if self.split.rollout_id is None:
            named |= {version for version, weight in self.split.weights.items() if weight > 0}
        return frozenset(named)

    @property
    def held(self) -> str | None:
        """The old champion, while a share of the traffic stays with it beside the new one."""
        share = self.split.holdback.get(self.holdback, 0.0) if self.holdback else 0.0
        return self.holdback if share > 0 and not self.alarm and self.holdback != self.champion else None

    @property
    def tested(self) -> str | None:
        """The version that is compared now: the live challenger, or the new champion beside the old one."""
        if self.alarm is not None:
            return None
        if self.challenger is not None and self.split.weights.get(self.challenger, 0.0) > 0:
            return self.challenger
        return self.champion if self.held else None

    @cached_property
    def excluded(self) -> dict[str, frozenset[str]]:
        """Column -> values, each as its one text, whose requests are the champion's."""
        return {
            column: frozenset(same_text(value) for value in values)
            for column, values in self.split.excluded.items()
        }

    def pieces(self, champion: str) -> tuple[list[float], list[Assignment]]:
        """The split as a table (`core.routing.split.pieces`), as `assign` follows it while nothing is excluded."""
        if self.alarm is not None:
            return [0.0], [Assignment(champion, "champion", Reason.SPLIT_UNREADABLE)]
        starts, found = pieces(self.split, champion, self.live, self.holdback)
        if found[0].reason is Reason.CHAMPION_ONLY and self.cut:
            found = [replace(found[0], reason=Reason.CUT_OFF)]
        return starts, found

    def assign(self, champion: str, key: str, is_excluded: Callable[[], bool] = lambda: False) -> Assignment:
        """Who answers a key, when `champion` is the version that serves as champion now.

        Args:
            is_excluded: asked only while a split is followed that excludes something: does the request belong to a
                segment that was sent back? Such a request is nobody's sample, whichever arm its key falls to, so that
                the arms still compare.
        """
        if self.alarm is not None:
            return Assignment(champion, "champion", Reason.SPLIT_UNREADABLE)
        found = assign(self.split, champion, self.live, key, self.holdback)
        if found.reason is Reason.CHAMPION_ONLY:
            return replace(found, reason=Reason.CUT_OFF) if self.cut else found
        if self.split.excluded and is_excluded():
            if self.held and self.held != champion:
                return Assignment(self.held, HOLDBACK, Reason.EXCLUDED)
            return Assignment(champion, "champion", Reason.EXCLUDED)
        return found


class Routes:
    """The routes of all models; every change is also on disk, so that a restart without MLflow serves on.

    Args:
        folder: one JSON file per model. on_change: called with the new route after each change.
    """

    def __init__(self, folder: Path, on_change: Callable[[Route], None] | None = None) -> None:
        self._folder, self._on_change = folder, on_change
        self._lock = threading.RLock()
        self._routes: dict[str, Route] = {}
        self._views: dict[str, RegistryView] = {}
        self._cuts: dict[str, dict[Cut, float]] = {}
        self._replaced: dict[str, Replaced] = {}
        self._told_at: dict[str, float] = {}

    def get(self, model: str) -> Route | None:
        """The route of a model, or None."""
        return self._routes.get(model)

    def all(self) -> list[Route]:
        """Every route, by model name."""
        return [self._routes[model] for model in sorted(self._routes)]

    def apply(self, model: str, view: RegistryView, asked_at: float, source: str = "registry") -> Route:
        """Follow what the registry shows.

        Args:
            asked_at: `time.monotonic()` before the registry was asked: an answer that set out before a cutoff
                can't end it, nor can one that set out before `told` undo what that brought.
        """
        with self._lock:
            if asked_at < self._told_at.get(model, asked_at):
                return self._routes[model]
            self._end_cuts(model, view, asked_at)
            return self._follow(model, view, source)

    def told(self, model: str, view: RegistryView) -> bool:
        """Follow a view that whoever wrote it sent; it ends no cutoff, since nobody knows when it set out.

        Returns:
            False, and nothing is changed, unless its revision shows that it is newer than what is followed.
        """
        with self._lock:
            known = self._views.get(model)
            if known is None or known.split_error is not None or view.split is None or view.champion is None:
                return False
            if known.split is not None and not view.split.revision > known.split.revision:
                return False
            self._told_at[model] = time.monotonic()
            self._follow(model, view, "notify")
            return True

    def cut(self, model: str, rollout_id: str, version: str) -> Route | None:
        """Give a rollout's version nothing from now on, until the registry agrees.

        A version that became champion meanwhile gives way to the one it replaced in that rollout, if that is known.
        """
        with self._lock:
            self._cuts.setdefault(model, {})[(rollout_id, version)] = time.monotonic()
            view = self._views.get(model)
            return self._follow(model, view, "notify") if view else None

    def load(self) -> None:
        """Read the routes of an earlier run; what can't be read is left out and logged."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                saved = json.loads(path.read_text())
                split = decode_split(saved["split"]) if saved["split"] is not None else None
                names = {name: saved[name] for name in ("champion", "challenger", "shadow", "split_error")}
                shelf = {str(name): bool(wanted) for name, wanted in dict(saved.get("shelf", {})).items()}
                view = RegistryView(**names, split=split, holdback=saved.get("holdback"), shelf=shelf)
                rollout, version = saved.get("replaced") or (None, None)
                cuts = {(str(rollout), str(version)): time.monotonic() for rollout, version in saved["cuts"]}
                model = str(saved["model"])
            except (OSError, ValueError, KeyError, TypeError) as err:
                log.warning("%s can't be read (%s); the registry will tell", path, err)
                continue
            with self._lock:
                self._cuts[model] = cuts
                if version is not None:
                    self._replaced[model] = (rollout, str(version))
                self._follow(model, view, "file")

    def _end_cuts(self, model: str, view: RegistryView, asked_at: float) -> None:
        cuts = self._cuts.get(model, {})
        for (rollout_id, version), at in list(cuts.items()):
            shown = view.split
            same = shown is not None and shown.rollout_id == rollout_id
            given = view.champion == version or (shown is not None and shown.weights.get(version, 0.0) > 0)
            # Without a champion the model was not listed at all, which says nothing about its split.
            known = view.champion is not None and view.split_error is None
            if asked_at > at and known and not (same and given):
                del cuts[(rollout_id, version)]

    def _follow(self, model: str, view: RegistryView, source: str) -> Route:
        before = self._routes.get(model)
        named = view.champion or (before.named if before else None)
        alarm = view.split_error and f"the split can't be read: {view.split_error}"
        if view.champion is None:
            alarm = "no version has the alias champion"
        split = hold_frozen(before.split if before else None, view.split or Split())
        if before and before.named is not None and before.named != named:
            same = before.split.rollout_id == split.rollout_id
            self._replaced[model] = (split.rollout_id if same else None, before.named)
        cut, instead = False, self._instead(model, view, before)
        for rollout_id, version in self._cuts.get(model, {}):
            if split.rollout_id == rollout_id:
                split, cut = without(split, version), True
        route = Route(
            model=model,
            champion=instead or named,
            challenger=view.challenger,
            shadow=view.shadow,
            split=split,
            alarm=alarm,
            cut=cut,
            since=datetime.now(UTC),
            source=source,
            holdback=view.holdback,
            replaced=self._replaced.get(model),
            undone=named if instead else None,
            shelf=view.shelf,
        )
        self._views[model] = view
        if before and _same(before, route):
            return before
        self._routes[model] = route
        self._save(model, view)
        if alarm and (before is None or before.alarm != alarm):
            log.error("%s: %s; the champion gets all traffic", model, alarm)
        if self._on_change:
            self._on_change(route)
        return route

    def _instead(self, model: str, view: RegistryView, before: Route | None) -> str | None:
        """Who serves in place of a champion that was cut off: whom it replaced in its rollout, if that is known."""
        cuts = self._cuts.get(model, {})
        if view.split is None or view.champion is None:
            # Half an entry does not bring back what was cut off.
            kept = before is not None and before.undone is not None and view.champion in (None, before.undone)
            return before.champion if kept and before and cuts else None
        if (view.split.rollout_id, view.champion) not in cuts:
            return None
        if view.holdback in view.split.holdback and view.holdback != view.champion:
            return view.holdback
        rollout_id, version = self._replaced.get(model, (None, None))
        return version if rollout_id is not None and rollout_id == view.split.rollout_id else None

    def _save(self, model: str, view: RegistryView) -> None:
        saved: dict[str, Any] = {
            "model": model,
            "champion": view.champion or self._routes[model].named,
            "challenger": view.challenger,
            "shadow": view.shadow,
            "split": encode_split(view.split) if view.split else None,
            "split_error": view.split_error,
            "holdback": view.holdback,
            "shelf": dict(view.shelf),
            "replaced": self._replaced.get(model),
            "cuts": sorted(self._cuts.get(model, {})),
        }
        path = self._folder / f"{quote(model, safe='')}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Several workers write the same file.
            fresh = path.with_suffix(f".{os.getpid()}.part")
            fresh.write_text(json.dumps(saved))
            fresh.replace(path)
        except OSError as err:
            log.warning(
                "%s's split can't be kept on disk (%s); a restart would need the registry", model, err
            )


def _same(before: Route, after: Route) -> bool:
    return replace(before, since=after.since, source=after.source) == after
