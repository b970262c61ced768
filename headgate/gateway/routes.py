"""Which split each model follows now: what the registry showed last, minus what was cut off since."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headgate.core.rollout import RegistryView
from headgate.core.routing.split import (
    Assignment,
    Reason,
    Split,
    assign,
    decode_split,
    encode_split,
    hold_frozen,
    without,
)

log = logging.getLogger(__name__)

Cut = tuple[str, str]
"""(rollout id, version)."""


@dataclass(frozen=True, slots=True)
class Route:
    """One model's way, immutable: a request reads it once and is answered by it whatever changes meanwhile.

    Attributes:
        champion: the version that gets what no arm claims; None before there ever was one.
        split: as followed: cutoffs applied, growth held back while frozen.
        alarm: what is wrong with the registry's entry; traffic is then the champion's alone.
        since: when this came to be followed, aware UTC. source: `registry`, `notify` or `file`.
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
    previous_champion: str | None = None

    @property
    def versions(self) -> list[str]:
        """What must be in memory, the champion first; its predecessor stays for an instant undo."""
        named = (self.champion, self.challenger, self.shadow, self.previous_champion)
        return list(dict.fromkeys(version for version in named if version))

    def assign(self, champion: str, key: str) -> Assignment:
        """Who answers a key, when `champion` is the version that serves as champion now."""
        if self.alarm is not None:
            return Assignment(champion, "champion", Reason.SPLIT_UNREADABLE)
        live = {self.challenger} if self.challenger else set()
        found = assign(self.split, champion, live, key)
        if self.cut and found.reason is Reason.CHAMPION_ONLY:
            return Assignment(champion, "champion", Reason.CUT_OFF)
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
                can't end it.
        """
        with self._lock:
            self._end_cuts(model, view, asked_at)
            return self._follow(model, view, source)

    def cut(self, model: str, rollout_id: str, version: str) -> Route | None:
        """Give a rollout's version nothing from now on, until the registry agrees."""
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
                view = RegistryView(**names, split=split)
                cuts = {(str(rollout), str(version)): time.monotonic() for rollout, version in saved["cuts"]}
                model = str(saved["model"])
            except (OSError, ValueError, KeyError, TypeError) as err:
                log.warning("%s can't be read (%s); the registry will tell", path, err)
                continue
            with self._lock:
                self._cuts[model] = cuts
                self._follow(model, view, "file")

    def _end_cuts(self, model: str, view: RegistryView, asked_at: float) -> None:
        cuts = self._cuts.get(model, {})
        for (rollout_id, version), at in list(cuts.items()):
            shown = view.split
            same = shown is not None and shown.rollout_id == rollout_id
            weight = shown.weights.get(version, 0.0) if shown else 0.0
            # Without a champion the model was not listed at all, which says nothing about its split.
            known = view.champion is not None and view.split_error is None
            if asked_at > at and known and not (same and weight > 0):
                del cuts[(rollout_id, version)]

    def _follow(self, model: str, view: RegistryView, source: str) -> Route:
        before = self._routes.get(model)
        champion = view.champion or (before.champion if before else None)
        alarm = view.split_error and f"the split can't be read: {view.split_error}"
        if view.champion is None:
            alarm = "no version has the alias champion"
        split = hold_frozen(before.split if before else None, view.split or Split())
        cut = False
        for rollout_id, version in self._cuts.get(model, {}):
            if split.rollout_id == rollout_id:
                split, cut = without(split, version), True
        previous = None
        if before:
            previous = before.champion if before.champion != champion else before.previous_champion
        route = Route(
            model=model,
            champion=champion,
            challenger=view.challenger,
            shadow=view.shadow,
            split=split,
            alarm=alarm,
            cut=cut,
            since=datetime.now(UTC),
            source=source,
            previous_champion=previous,
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

    def _save(self, model: str, view: RegistryView) -> None:
        saved: dict[str, Any] = {
            "model": model,
            "champion": view.champion or self._routes[model].champion,
            "challenger": view.challenger,
            "shadow": view.shadow,
            "split": encode_split(view.split) if view.split else None,
            "split_error": view.split_error,
            "cuts": sorted(self._cuts.get(model, {})),
        }
        path = self._folder / f"{quote(model, safe='')}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".part")
            fresh.write_text(json.dumps(saved))
            fresh.replace(path)
        except OSError as err:
            log.warning(
                "%s's split can't be kept on disk (%s); a restart would need the registry", model, err
            )


def _same(before: Route, after: Route) -> bool:
    mine = (before.champion, before.challenger, before.shadow, before.split, before.alarm, before.cut)
    return mine == (after.champion, after.challenger, after.shadow, after.split, after.alarm, after.cut)
