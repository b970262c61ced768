"""The event gates: a challenger that crashes is cut off here, after a handful of requests, without a sweep.

One gate per model, for the rollout and version that is compared now; changes of the weight go on in the same gate.
Compared are the answers that the split gave to either side. A request that both versions fail on says nothing against
the challenger, and an answer of the champion that took longer than a challenger may is a failure like a timeout, so
neither an outage of both nor a slow machine trips it. A challenger that is still loading, or has
as many calls as it may have, is not counted at all.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headgate.core.rollout import Trip
from headgate.core.routing.split import Assignment, Reason
from headgate.core.stats.event_gate import EventGate
from headgate.errors import HeadgateError, NotFoundError
from headgate.gateway.execute import Execution
from headgate.gateway.routes import Route

log = logging.getLogger(__name__)

FIRST_SHARE = 0.9
"""The first start's share of alpha; each further start gets the same share of what is left."""
_MOST_STARTS = 100
"""From here on a start's share stays the same, 1e-100 of alpha, so that it never gets too small for a number."""
RETRY_S = 1.0
_NOT_ASKED = (Reason.FALLBACK_NOT_LOADED, Reason.FALLBACK_OVERLOAD)

Report = Callable[[str, str, Trip], object]


def share_of_start(number: int) -> float:
    """The part of alpha that the `number`-th start (from 1 on) of one gate may spend; all starts together spend 1.

    >>> [round(share_of_start(number), 3) for number in (1, 2, 3)]
    [0.9, 0.09, 0.009]
    """
    return FIRST_SHARE * (1.0 - FIRST_SHARE) ** min(number - 1, _MOST_STARTS)


@dataclass(slots=True)
class _Watched:
    """One model's gate."""

    model: str
    rollout_id: str
    version: str
    starts: int
    gate: EventGate
    trip: Trip | None = None
    reported: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class EventGates:
    """The gates of one gateway process.

    A gate forgets its counts when the process ends. So that many restarts can't add up to more than `alpha`, the number
    of starts is kept on disk, and each start of the same gate may spend only its share (`share_of_start`). Several
    gateways know nothing of each other: the chance that any of them cuts a healthy challenger off is at most their
    number times `alpha`, so with several of them give each its part.

    Args:
        alpha: chance that a rollout's healthy challenger is ever cut off by this gateway, 0-1; 0 = no gates.
        folder: one JSON file per model: starts, and the trip until it is reported.
        cut: called with (model, rollout id, version) at once. report: called with (rollout id, version, trip) on a
            thread of its own until it does not raise.
        timeout_s: longest wait for a challenger. name: of this process, as trips tell it.
        on_trip: called with (model, version), for the counter.
    """

    def __init__(
        self,
        alpha: float,
        folder: Path,
        *,
        cut: Callable[[str, str, str], object],
        report: Report,
        timeout_s: float,
        name: str,
        on_trip: Callable[[str, str], object] = lambda _model, _version: None,
    ) -> None:
        self._alpha, self._folder, self._name = alpha, folder, name
        self._cut, self._report, self._on_trip = cut, report, on_trip
        self._slow_ms = timeout_s * 1000.0
        self._lock = threading.Lock()
        self._watched: dict[tuple[str, str, str], _Watched] = {}
        self._newest: dict[str, _Watched] = {}
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="event-gates", daemon=True)

    def start(self) -> None:
        """Report what an earlier run could not, and whatever trips from now on."""
        self._load_trips()
        self._thread.start()

    def stop(self) -> None:
        """End after the report under way; what is not reported is on disk."""
        self._stopping = True
        self._wake.set()
        self._thread.join(5)

    def observe(self, route: Route, execution: Execution) -> None:
        """Count one live request that was answered by the route."""
        tested, rollout_id = route.tested, route.split.rollout_id
        if not self._alpha > 0 or tested is None or rollout_id is None:
            return
        challenged = execution.assigned.version == tested
        expected = self._expected(route, challenged=challenged)
        if execution.assigned.reason is not expected or execution.reason in _NOT_ASKED:
            return
        failed = execution.fell_back or (not challenged and self._fails(execution))
        if not (challenged and failed and self._fails(execution)):
            self._count(self._gate(route.model, rollout_id, tested), challenged=challenged, failed=failed)

    def counter(self, route: Route, assigned: Assignment) -> Callable[[float], None] | None:
        """What counts answers given as assigned, each told with its latency in ms; None when nobody compares them.

        As `observe` would, for those who answer thousands of times a second.
        """
        tested, rollout_id = route.tested, route.split.rollout_id
        if not self._alpha > 0 or tested is None or rollout_id is None:
            return None
        challenged = assigned.version == tested
        if assigned.reason is not self._expected(route, challenged=challenged):
            return None

        def count(latency_ms: float) -> None:
            failed = not challenged and latency_ms > self._slow_ms
            self._count(self._gate(route.model, rollout_id, tested), challenged=challenged, failed=failed)

        return count

    def _expected(self, route: Route, *, challenged: bool) -> Reason:
        # Beside a promoted version the hold-back is the champion that it is compared with.
        return Reason.HOLDBACK if route.held and not challenged else Reason.SPLIT

    def _count(self, watched: _Watched, *, challenged: bool, failed: bool) -> None:
        with watched.lock:
            gate = watched.gate
            if watched.trip is not None:
                return
            if not (gate.challenger(failed) if challenged else gate.champion(1, int(failed))):
                return
            watched.trip = Trip(datetime.now(UTC), gate.requests, gate.failures, gate.log_e, self._name)
        self._tripped(watched, watched.trip)

    def status(self, model: str) -> dict[str, Any] | None:
        """What the model's gate has seen; None without one."""
        watched = self._newest.get(model)
        if watched is None:
            return None
        gate = watched.gate
        return {
            "rollout_id": watched.rollout_id,
            "version": watched.version,
            "requests": gate.requests,
            "failures": gate.failures,
            "log_e": gate.log_e,
            "log_e_needed": -math.log(self._alpha * share_of_start(watched.starts)),
            "starts": watched.starts,
            "tripped_at": watched.trip.at.isoformat() if watched.trip else None,
            "reported": watched.reported,
        }

    def log_e(self, model: str) -> float:
        """The evidence of the model's gate now; 0 without one."""
        watched = self._newest.get(model)
        return watched.gate.log_e if watched else 0.0

    def _fails(self, execution: Execution) -> bool:
        return execution.answer is None or execution.answer.latency_ms > self._slow_ms

    def _tripped(self, watched: _Watched, trip: Trip) -> None:
        self._cut(watched.model, watched.rollout_id, watched.version)
        self._on_trip(watched.model, watched.version)
        log.error(
            "%s: version %s is cut off: %d of its %d requests failed, evidence %.0f",
            watched.model,
            watched.version,
            trip.failures,
            trip.requests,
            math.exp(min(trip.log_e, 700.0)),
        )
        self._save(watched)
        self._wake.set()

    def _gate(self, model: str, rollout_id: str, version: str) -> _Watched:
        key = (model, rollout_id, version)
        # Requests of the rollout before may still come in; they find their own gate.
        if (known := self._watched.get(key)) is not None:
            return known
        with self._lock:
            if (known := self._watched.get(key)) is not None:
                return known
            watched, last = self._begin(*key), self._newest.get(model)
            for other, item in list(self._watched.items()):
                if other[0] == model and item is not last and (item.trip is None or item.reported):
                    del self._watched[other]
            self._watched[key] = self._newest[model] = watched
            self._save(watched)
        return watched

    def _begin(self, model: str, rollout_id: str, version: str) -> _Watched:
        starts, trip, reported = 1, None, False
        try:
            saved = json.loads(self._file(model).read_text())
            if (saved["rollout_id"], saved["version"]) == (rollout_id, version):
                starts, reported = int(saved["starts"]) + 1, bool(saved["reported"])
                trip = _trip_from(saved["trip"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as err:
            log.warning("%s can't be read (%s); its gate starts anew", self._file(model), err)
        gate = EventGate(self._alpha * share_of_start(starts))
        return _Watched(model, rollout_id, version, starts, gate, trip, reported)

    def _file(self, model: str) -> Path:
        return self._folder / f"{quote(model, safe='')}.json"

    def _save(self, watched: _Watched) -> None:
        trip = watched.trip
        saved = {
            "model": watched.model,
            "rollout_id": watched.rollout_id,
            "version": watched.version,
            "starts": watched.starts,
            "trip": asdict(trip) | {"at": trip.at.isoformat()} if trip else None,
            "reported": watched.reported,
        }
        path = self._file(watched.model)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Several processes may keep theirs in one folder.
            fresh = path.with_suffix(f".{os.getpid()}.part")
            fresh.write_text(json.dumps(saved))
            fresh.replace(path)
        except OSError as err:
            log.warning("%s's event gate can't be kept on disk (%s)", watched.model, err)

    def _work(self) -> None:
        away = False
        while not self._stopping:
            open_ones = [item for item in list(self._watched.values()) if item.trip and not item.reported]
            try:
                for watched in open_ones:
                    self._send(watched)
            except HeadgateError as err:
                log.log(logging.DEBUG if away else logging.WARNING, "a cut-off is not reported yet: %s", err)
            except Exception:  # the edge of the thread: the next trip must be reported too
                log.exception("reporting a cut-off failed")
            away = any(not item.reported for item in open_ones)
            self._wake.wait(RETRY_S if away else None)
            self._wake.clear()

    def _send(self, watched: _Watched) -> None:
        if watched.trip is None:
            return
        try:
            self._report(watched.rollout_id, watched.version, watched.trip)
        except NotFoundError as err:
            log.warning("nobody wants to know that %s was cut off: %s", watched.model, err)
        watched.reported = True
        if self._newest.get(watched.model) is watched:
            self._save(watched)

    def _load_trips(self) -> None:
        """Take up the trips that an earlier run could not report."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                saved = json.loads(path.read_text())
                if saved["trip"] is None or saved["reported"]:
                    continue
                names = [str(saved[name]) for name in ("model", "rollout_id", "version")]
            except (OSError, ValueError, KeyError, TypeError) as err:
                log.warning("%s can't be read (%s)", path, err)
                continue
            self._gate(names[0], names[1], names[2])


def _trip_from(saved: dict[str, Any] | None) -> Trip | None:
    if saved is None:
        return None
    at = datetime.fromisoformat(saved["at"])
    return Trip(
        at, int(saved["requests"]), int(saved["failures"]), float(saved["log_e"]), str(saved["gateway"])
    )
