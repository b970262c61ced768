"""One page for Prometheus out of several gateway processes: each leaves its numbers on disk, whoever is asked adds them up."""

import logging
import math
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

STALE_S = 5.0
"""A worker that has not written for so long no longer says how things are now; what it counted counts on."""
_DEAD = "dead.json"

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One metric: its kind, its help text, and (sample name, labels) -> value."""

    kind: str
    text: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Add to a sample; one that is not there yet begins at 0."""
        key = (name, tuple(labels.items()))
        self.samples[key] = self.samples.get(key, 0.0) + value


Families = dict[str, Family]
GAUGES = {
    "active_models_count": max,
    "headgate_split_alarm": max,
    "headgate_event_gate_log_e": max,
    "headgate_registry_up": min,
}
"""Gauges of several workers that are not summed."""
FIRST_SAYS = frozenset({"headgate_weight_percent"})
"""Gauges that are the same everywhere, but for the milliseconds of a change: the answering worker's counts."""

COUNTING = frozenset({"headgate_log_lost_rows"})
"""Gauges that only grow: what a worker that died had counted counts on."""


def gather(collected: Iterable[Metric]) -> Families:
    """What a registry collected. Times of creation are left out: of several processes they say nothing."""
    found: Families = {}
    for metric in collected:
        family = found.setdefault(metric.name, Family(metric.type, metric.documentation))
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                family.add(sample.name, sample.labels, sample.value)
    return found


def merge(living: Iterable[Families], dead: Iterable[Families] = ()) -> Families:
    """The numbers of several processes as those of one; of the dead only what they counted."""
    merged: Families = {}
    for families in living:
        for name, family in families.items():
            _merge_into(merged.setdefault(name, Family(family.kind, family.text)), name, family)
    for families in dead:
        for name, family in families.items():
            if family.kind != "gauge" or name in COUNTING:
                _merge_into(merged.setdefault(name, Family(family.kind, family.text)), name, family)
    return merged


def _merge_into(target: Family, name: str, family: Family) -> None:
    rule = GAUGES.get(name) if family.kind == "gauge" else None
    for key, value in family.samples.items():
        before = target.samples.get(key)
        if before is None:
            target.samples[key] = value
        elif rule is not None:
            target.samples[key] = rule(before, value)
        elif name not in FIRST_SAYS:
            target.samples[key] = before + value


class _Merged(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.text, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def render(families: Families) -> bytes:
    """The page for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Merged(families))
    return generate_latest(registry)


class Board:
    """The folder in which the workers of one supervisor leave their numbers.

    What a worker showed is on disk before it is shown, so that no later page shows less: Prometheus would take that for
    a restart and count everything again.

    Args:
        index: which of the workers this is; None = only looks and folds.
    """

    def __init__(self, folder: Path, index: int | None = None) -> None:
        self.folder = folder
        self._own = (
            folder / f"{index}-{os.getpid()}-{secrets.token_hex(4)}.json" if index is not None else None
        )

    def publish(self, families: Families) -> None:
        """Leave these numbers; a disk that does not take them costs the others' pages, never a request."""
        if self._own is None:
            return
        try:
            _write(self._own, {"at": time.time(), "families": _plain(families)})
        except OSError as err:
            log.warning("the metrics of this worker can't be left in %s: %s", self.folder, err)

    def others(self) -> tuple[list[Families], list[Families]]:
        """What the other workers left: of those that live, and of those that are gone."""
        left = [
            (path.name, _read(path)) for path in sorted(self.folder.glob("*-*-*.json")) if path != self._own
        ]
        # Read last: a worker that is folded in meanwhile is then either seen above or in here, never in both.
        dead = _read(self.folder / _DEAD) or {"names": [], "families": {}}
        found = [read for name, read in left if read is not None and name not in dead["names"]]
        fresh = time.time() - STALE_S
        living = [_families(read["families"]) for read in found if read["at"] >= fresh]
        gone = [_families(read["families"]) for read in found if read["at"] < fresh]
        return living, [*gone, _families(dead["families"])]

    def fold(self, pid: int) -> None:
        """Keep what a worker that ended had counted, and forget the rest. Only the supervisor calls it."""
        dead = _read(self.folder / _DEAD) or {"names": [], "families": {}}
        for path in self.folder.glob(f"*-{pid}-*.json"):
            read = _read(path)
            if read is not None and path.name not in dead["names"]:
                counted = merge((), (_families(dead["families"]), _families(read["families"])))
                dead = {"names": [*dead["names"], path.name], "families": _plain(counted)}
                _write(self.folder / _DEAD, dead)
            path.unlink(missing_ok=True)

    def mark_ready(self) -> None:
        """Say that this worker answers from now on."""
        (self.folder / f"{os.getpid()}.ready").touch()

    def is_ready(self, pid: int | None) -> bool:
        """Has this worker said that it answers?"""
        return (self.folder / f"{pid}.ready").exists()


def _plain(families: Families) -> dict[str, Any]:
    return {
        name: [family.kind, family.text, [[*key, _shown(value)] for key, value in family.samples.items()]]
        for name, family in families.items()
    }


def _shown(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _families(plain: Any) -> Families:
    return {
        name: Family(
            kind,
            text,
            {
                (sample, tuple((key, label) for key, label in labels)): float(value)
                for sample, labels, value in samples
            },
        )
        for name, (kind, text, samples) in plain.items()
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        read = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        log.warning("%s can't be read (%s); its worker is missing on this page", path, err)
        return None
    return read if isinstance(read, dict) else None


def _write(path: Path, content: dict[str, Any]) -> None:
    fresh = path.with_suffix(".part")
    fresh.write_bytes(orjson.dumps(content))
    fresh.replace(path)
