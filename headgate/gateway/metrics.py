"""Prometheus metrics of one gateway: the documents' names, and headgate's with model, version and arm."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_MOST_OUTCOMES = 50
OTHER = "other"


class Metrics:
    """Counters and gauges on a registry of their own, so that two gateways in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._outcomes: dict[str, set[str]] = {}
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
        self.log_backlog = Gauge("headgate_log_backlog", "Segments waiting for PostgreSQL.", registry=made)
        self.log_lost = Gauge("headgate_log_lost_rows", "Rows that the disk did not take.", registry=made)
        self.load_failures = Counter(
            "headgate_load_failures", "Failed loads.", ["model", "version"], registry=made
        )
        self.signal_failures = Counter(
            "headgate_signal_failures", "Signals that could not be stored.", registry=made
        )
        self.cache = Counter("headgate_cache", "L1 cache look-ups.", ["result"], registry=made)
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
        seen.add(text)
        return text

    def page(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self.registry)
