"""Prometheus metrics of one gateway: the documents' names, and headgate's with model, version and arm."""

import logging
import threading
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.utils import floatToGoString

from headgate.answers import as_text
from headgate.gateway.metrics_merge import Board, Families, gather, merge, render

log = logging.getLogger(__name__)

PUBLISH_EVERY_S = 1.0
_COMPILED = (0.00002, 0.0001)
_SECONDS = (*_COMPILED, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_EDGES_MS = [edge * 1000.0 for edge in _SECONDS]
_LE = [*map(floatToGoString, _SECONDS), "+Inf"]
_MOST_OUTCOMES = 50
_MOST_KINDS = 4 * _MOST_OUTCOMES
OTHER = "other"
_AS_TEXT = frozenset({bool, list, dict})


class Metrics:
    """Counters and gauges on a registry of their own, so that two gateways in one process do not mix.

    Args:
        board: where the workers of one server leave their numbers for each other; None = there are no others.
    """

    def __init__(self, board: Board | None = None) -> None:
        self.registry = CollectorRegistry()
        self._board = board
        self._ending = threading.Event()
        self._publisher = threading.Thread(target=self._publish_on, name="publish-metrics", daemon=True)
        self._outcomes: dict[str, set[str]] = {}
        self._numbers: dict[str, set[float]] = {}
        self._hot: dict[tuple[str, str, str, str], HotCounter] = {}
        self._lock = threading.Lock()
        arm = ["model", "version", "arm"]
        made = self.registry
        self.ab_requests = Counter(
            "ab_test_requests", "Requests by model version.", ["model_version"], registry=made
        )
        self.ab_predictions = Counter(
            "model_version_predictions",
            "Predictions by version and outcome.",
            ["version", "outcome"],
            registry=made,
        )
        self.ab_active = Gauge("active_models_count", "Versions in memory.", registry=made)
        self.ab_errors = Counter("prediction_errors", "Failed predictions.", ["model_version"], registry=made)
        self.requests = Counter(
            "headgate_requests", "Requests routed to an arm.", [*arm, "reason"], registry=made
        )
        self.errors = Counter("headgate_errors", "Failures of an arm.", [*arm, "category"], registry=made)
        self.fallbacks = Counter(
            "headgate_fallbacks", "Answered by the champion instead.", ["model", "reason"], registry=made
        )
        self.refused = Counter(
            "headgate_refused", "Bodies that no model was asked about.", ["status"], registry=made
        )
        self.latency = Histogram(
            "headgate_predict_seconds", "Time in the model's predict.", arm, buckets=_SECONDS, registry=made
        )
        self.uncertain = Counter(
            "headgate_uncertain_predictions", "Answers not confident enough to act on.", arm, registry=made
        )
        self.shadow_dropped = Counter("headgate_shadow_dropped", "Mirrored calls dropped.", registry=made)
        self.log_failures = Counter(
            "headgate_log_failures", "Answers that could not be logged.", registry=made
        )
        self.access_lost = Counter(
            "headgate_access_log_lost", "Lines that the access log did not take.", registry=made
        )
        self.log_backlog = Gauge("headgate_log_backlog", "Segments waiting for PostgreSQL.", registry=made)
        self.log_lost = Gauge("headgate_log_lost_rows", "Rows that the disk did not take.", registry=made)
        self.compiled_off = Counter(
            "headgate_compiled_off",
            "Compiled forms that answered otherwise than their model, and answer no more.",
            ["model", "version"],
            registry=made,
        )
        self.load_failures = Counter(
            "headgate_load_failures", "Failed loads.", ["model", "version"], registry=made
        )
        self.process_ends = Counter(
            "headgate_process_ends",
            "Processes of versions that ended by themselves, or had to be ended.",
            ["model", "version"],
            registry=made,
        )
        self.signal_failures = Counter(
            "headgate_signal_failures", "Signals that could not be stored.", registry=made
        )
        version = ["model", "version"]
        self.batches = Counter(
            "headgate_batches", "Calls that answered several requests.", version, registry=made
        )
        self.batched = Counter(
            "headgate_batched_requests", "Requests answered together with others.", version, registry=made
        )
        self.queue_depth = Gauge(
            "headgate_queue_depth", "Calls that wait for a version.", ["model", "version"], registry=made
        )
        self.in_flight = Gauge("headgate_in_flight", "Requests waiting or running.", registry=made)
        self.weight = Gauge(
            "headgate_weight_percent", "Share followed now.", ["model", "version"], registry=made
        )
        self.alarm = Gauge(
            "headgate_split_alarm", "1 = the registry's entry is unusable.", ["model"], registry=made
        )
        self.gate_trips = Counter(
            "headgate_event_gate_trips",
            "Challengers cut off by the event gate.",
            ["model", "version"],
            registry=made,
        )
        self.gate_evidence = Gauge(
            "headgate_event_gate_log_e", "Evidence of the event gate, natural log.", ["model"], registry=made
        )
        self.registry_up = Gauge("headgate_registry_up", "1 = the last look succeeded.", registry=made)

    def outcome(self, model: str, prediction: str | None) -> str:
        """A prediction as a label value: the first 50 kinds by name, all others as `other`."""
        seen = self._outcomes.setdefault(model, set())
        text = "none" if prediction is None else prediction[:60]
        if text not in seen and len(seen) >= _MOST_OUTCOMES:
            return OTHER
        if text not in seen:
            seen.add(text)
            numbers = self._numbers.setdefault(model, set())
            with suppress(ValueError):
                numbers.add(int(text) if text.lstrip("-").isdecimal() else float(text))
        return text

    def is_other(self, model: str, number: float) -> bool:
        """True for a number that `outcome` would call `other`, found out without writing it as text."""
        full = len(self._outcomes.get(model, ())) >= _MOST_OUTCOMES
        # NaN, unequal to itself, is `none`.
        return full and number == number and number not in self._numbers[model]

    def hot(self, model: str, version: str, arm: str, reason: str) -> "HotCounter":
        """What counts the answers that one version gave on one arm for one reason; always the same one."""
        name = (model, version, arm, reason)
        with self._lock:
            if name not in self._hot:
                self._hot[name] = HotCounter(self, *name)
            return self._hot[name]

    def families(self) -> Families:
        """This process's numbers."""
        found = gather(self.registry.collect())
        for counter in list(self._hot.values()):
            counter.add_to(found)
        return found

    def publish(self) -> None:
        """Leave this process's numbers where the other workers find them."""
        if self._board is not None:
            self._board.publish(self.families())

    def start_publishing(self) -> None:
        """Leave the numbers every `PUBLISH_EVERY_S`, on a thread of its own; without other workers nothing happens."""
        if self._board is not None:
            self._publisher.start()

    def stop_publishing(self) -> None:
        """Leave them a last time."""
        if self._publisher.is_alive():
            self._ending.set()
            self._publisher.join(5)
        self.publish()

    def _publish_on(self) -> None:
        while not self._ending.wait(PUBLISH_EVERY_S):
            try:
                self.publish()
            except Exception:  # the edge of the thread: the next page must be right again
                log.exception("the metrics could not be left for the other workers")

    def page(self) -> bytes:
        """The page for Prometheus: this process's numbers, with those of the other workers of this server."""
        own = self.families()
        if self._board is None:
            return render(own)
        self._board.publish(own)
        living, dead = self._board.others()
        return render(merge([own, *living], dead))


class HotCounter:
    """Counts answers in well under a microsecond: plain numbers, made into metrics when somebody looks.

    Told from one thread only. What it counts appears under the names of `Metrics.requests`, `ab_requests`, `latency` and
    `ab_predictions`, added to what was counted there.
    """

    __slots__ = ("_kinds", "_metrics", "_ms", "_name", "_other", "_texts", "_within")

    def __init__(self, metrics: Metrics, model: str, version: str, arm: str, reason: str) -> None:
        self._metrics, self._name = metrics, (model, version, arm, reason)
        self._within = [0] * len(_LE)
        self._ms = 0.0
        self._kinds: dict[Any, int] = {}
        self._texts: dict[str, int] = {}
        self._other = 0

    def answered(self, latency_ms: float, predictions: Sequence[Any]) -> None:
        """Count one answer.

        Args:
            latency_ms: time in the model's predict. predictions: one JSON value per row.
        """
        self._within[bisect_left(_EDGES_MS, latency_ms)] += 1
        self._ms += latency_ms
        kinds = self._kinds
        for value in predictions:
            # True and 1 are one key in a dict; lists are none.
            if value.__class__ in _AS_TEXT:
                self._count_text(value)
            elif (count := kinds.get(value)) is not None:
                kinds[value] = count + 1
            else:
                self._meet(value)

    def _meet(self, value: Any) -> None:
        """Count a value that was not there before; a regression's are all new."""
        if (value.__class__ is float or value.__class__ is int) and self._metrics.is_other(
            self._name[0], value
        ):
            self._other += 1
            return
        label = self._count_text(value)
        # Counted as text just now, from the next one on by itself; NaN is never found again.
        if label != OTHER and value == value and len(self._kinds) < _MOST_KINDS:
            self._kinds[value] = 0

    def _count_text(self, value: Any) -> str:
        label = self._metrics.outcome(self._name[0], as_text(value))
        self._texts[label] = self._texts.get(label, 0) + 1
        return label

    def add_to(self, families: Families) -> None:
        """Add what was counted to a registry's families."""
        model, version, arm, reason = self._name
        within, outcomes = list(self._within), self._outcomes()
        answers = sum(within)
        if not answers:
            return
        where = {"model": model, "version": version, "arm": arm}
        families["headgate_requests"].add("headgate_requests_total", {**where, "reason": reason}, answers)
        families["ab_test_requests"].add("ab_test_requests_total", {"model_version": version}, answers)
        for outcome, count in outcomes.items():
            labels = {"version": version, "outcome": outcome}
            families["model_version_predictions"].add("model_version_predictions_total", labels, count)
        times = families["headgate_predict_seconds"]
        for edge, count in zip(_LE, accumulate(within), strict=True):
            times.add("headgate_predict_seconds_bucket", {**where, "le": edge}, count)
        times.add("headgate_predict_seconds_count", where, answers)
        times.add("headgate_predict_seconds_sum", where, self._ms / 1000.0)

    def _outcomes(self) -> dict[str, int]:
        found = dict(self._texts)
        for value, count in list(self._kinds.items()):
            label = self._metrics.outcome(self._name[0], as_text(value))
            found[label] = found.get(label, 0) + count
        found[OTHER] = found.get(OTHER, 0) + self._other
        return {label: count for label, count in found.items() if count}
