"""Metrics: the short way counts as the long one does, several workers' numbers are one page, and the documents' queries work."""

import json
import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from headgate.answers import read_answers
from headgate.gateway.access import AccessLog, JsonLines
from headgate.gateway.metrics import Metrics
from headgate.gateway.metrics_merge import STALE_S, Board

VALUES = st.one_of(
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.floats(),
    st.sampled_from(["approved", "denied", " 3 ", "3", "1e2", ""]),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 2), min_size=2, max_size=2),
)


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(page: bytes, name: str, **labels: str) -> float:
    return samples(page)[(name, tuple(sorted(labels.items())))]


def count_the_long_way(metrics: Metrics, latency_ms: float, predictions: list[Any]) -> None:
    """As `Service` counts an answer of the general path."""
    where = ("m", "1", "champion")
    metrics.requests.labels(*where, "split").inc()
    metrics.ab_requests.labels("1").inc()
    metrics.latency.labels(*where).observe(latency_ms / 1000.0)
    for said in predictions:
        for row in read_answers([said]):
            metrics.ab_predictions.labels("1", metrics.outcome("m", row.prediction)).inc()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 20_000), st.lists(VALUES, min_size=1, max_size=4)), max_size=80))
def test_the_short_way_counts_as_the_long_one(requests: list[tuple[float, list[Any]]]) -> None:
    """OB-01, OB-02: names, labels and values, whatever a model predicts, beyond the most kinds too."""
    short, long = Metrics(), Metrics()
    hot = short.hot("m", "1", "champion", "split")
    for latency_ms, predictions in requests:
        hot.answered(latency_ms, predictions)
        count_the_long_way(long, latency_ms, predictions)
    one, other = samples(short.page()), samples(long.page())

    assert one.keys() == other.keys()
    for key, counted in one.items():
        assert counted == pytest.approx(other[key], rel=1e-9), key


def test_beyond_fifty_kinds_of_predictions_a_regression_is_other_and_what_was_known_stays() -> None:
    metrics = Metrics()
    hot = metrics.hot("m", "1", "champion", "split")
    for number in range(1000):
        hot.answered(0.01, [number / 7])
    hot.answered(0.01, [0.0, 0, "0", math.nan])
    page = metrics.page()

    assert value(page, "model_version_predictions_total", version="1", outcome="other") == 951
    assert value(page, "model_version_predictions_total", version="1", outcome="0") == 4
    assert len([name for name, _ in samples(page) if name == "model_version_predictions_total"]) == 51


def test_both_ways_add_up_and_a_name_has_one_counter() -> None:
    metrics = Metrics()
    hot = metrics.hot("m", "1", "champion", "split")
    hot.answered(1.5, ["a"])
    count_the_long_way(metrics, 1.5, ["a"])
    page = metrics.page()

    assert metrics.hot("m", "1", "champion", "split") is hot
    assert value(page, "ab_test_requests_total", model_version="1") == 2
    where = {"model": "m", "version": "1", "arm": "champion"}
    assert value(page, "headgate_predict_seconds_bucket", **where, le="0.001") == 0
    assert value(page, "headgate_predict_seconds_bucket", **where, le="0.002") == 2
    assert value(page, "headgate_predict_seconds_count", **where) == 2
    assert value(page, "headgate_predict_seconds_sum", **where) == pytest.approx(0.003)


def three(folder: Path) -> list[Metrics]:
    return [Metrics(Board(folder, index)) for index in range(3)]


def test_any_worker_answers_for_all_by_what_each_number_means(tmp_path: Path) -> None:
    """OB-01 to OB-04 with several workers."""
    workers = three(tmp_path)
    for index, metrics in enumerate(workers):
        metrics.hot("m", "1", "champion", "split").answered(1.0, ["a"] * (index + 1))
        metrics.ab_errors.labels("2").inc(index)
        metrics.ab_active.set(2)
        metrics.in_flight.set(index)
        metrics.registry_up.set(float(index != 1))
        metrics.weight.labels("m", "2").set(25.0)
        metrics.gate_evidence.labels("m").set([0.5, math.inf, 2.0][index])
        metrics.publish()
    for metrics in workers:
        page = metrics.page()

        assert value(page, "ab_test_requests_total", model_version="1") == 3
        assert value(page, "model_version_predictions_total", version="1", outcome="a") == 6
        assert value(page, "prediction_errors_total", model_version="2") == 3
        assert value(page, "active_models_count") == 2
        assert value(page, "headgate_in_flight") == 3
        assert value(page, "headgate_registry_up") == 0
        assert value(page, "headgate_weight_percent", model="m", version="2") == 25
        assert value(page, "headgate_event_gate_log_e", model="m") == math.inf


def test_no_page_shows_less_than_an_earlier_one_when_workers_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that falls is a restart to Prometheus, which would then count everything again."""
    workers = three(tmp_path)
    dying, other, third = workers
    dying.in_flight.set(7)
    dying.hot("m", "1", "champion", "split").answered(1.0, ["a"])
    for metrics in workers:
        metrics.publish()
    dying.hot("m", "1", "champion", "split").answered(1.0, ["a"])
    # It tells of both, then dies without having published again.
    assert value(dying.page(), "ab_test_requests_total", model_version="1") == 2
    other.hot("m", "1", "champion", "split").answered(1.0, ["a"])
    assert value(other.page(), "ab_test_requests_total", model_version="1") == 3

    supervisor = Board(tmp_path)
    first = next(path for path in tmp_path.glob("0-*.json"))
    # Each worker is a process of its own; here one process is all of them.
    first.rename(tmp_path / first.name.replace(str(os.getpid()), "77"))
    supervisor.fold(77)
    supervisor.fold(77)
    for metrics in (other, third):
        page = metrics.page()
        assert value(page, "ab_test_requests_total", model_version="1") == 3
        assert value(page, "headgate_in_flight") == 0

    # One that hangs no longer says how things are, but what it counted counts.
    third.in_flight.set(5)
    third.hot("m", "1", "champion", "split").answered(1.0, ["a"])
    third.publish()
    assert value(other.page(), "headgate_in_flight") == 5
    stale = next(path for path in tmp_path.glob("2-*.json"))
    told = json.loads(stale.read_text())
    stale.write_text(json.dumps({**told, "at": told["at"] - STALE_S - 1}))
    page = other.page()
    assert value(page, "headgate_in_flight") == 0
    assert value(page, "ab_test_requests_total", model_version="1") == 4
    # And what can't be read is missing, no more.
    stale.write_text("{")
    assert value(other.page(), "ab_test_requests_total", model_version="1") == 3


def test_a_board_that_can_not_be_written_costs_no_page(tmp_path: Path) -> None:
    metrics = Metrics(Board(tmp_path / "gone", 0))
    metrics.hot("m", "1", "champion", "split").answered(1.0, ["a"])

    assert value(metrics.page(), "ab_test_requests_total", model_version="1") == 1


def rate_by(pages: list[bytes], name: str, by: str, **matching: str) -> dict[str, float]:
    """`sum(rate(name{matching}[5m])) by (by)` over two pages 300 s apart, as Prometheus reads them."""
    first, last = (samples(page) for page in pages)
    found: dict[str, float] = {}
    for (sample, labels), counted in last.items():
        if sample == name and matching.items() <= dict(labels).items():
            grown = counted - first.get((sample, labels), 0.0)
            found[dict(labels)[by]] = found.get(dict(labels)[by], 0.0) + grown / 300.0
    return found


def test_the_documents_queries_find_approval_and_error_rates_by_version() -> None:
    """OB-01 to OB-05, S2:321-338: metric and label names exactly as the queries there use them."""
    metrics = Metrics()
    metrics.ab_active.set(2)
    pages = [metrics.page()]
    for version, approved, denied in (("1", 60, 40), ("2", 15, 5)):
        hot = metrics.hot("credit", version, "champion", "split")
        for outcome, count in (("approved", approved), ("denied", denied)):
            for _ in range(count):
                hot.answered(1.0, [outcome])
    metrics.ab_errors.labels("2").inc(3)
    pages.append(metrics.page())
    text = pages[1].decode()

    # sum(rate(model_version_predictions_total{outcome="approved"}[5m])) by (version)
    #   / sum(rate(model_version_predictions_total[5m])) by (version)
    approvals = rate_by(pages, "model_version_predictions_total", "version", outcome="approved")
    everything = rate_by(pages, "model_version_predictions_total", "version")
    assert {version: approvals[version] / everything[version] for version in everything} == {
        "1": pytest.approx(0.6),
        "2": pytest.approx(0.75),
    }
    # sum(rate(prediction_errors_total[5m])) by (model_version)
    assert rate_by(pages, "prediction_errors_total", "model_version") == {"2": pytest.approx(0.01)}
    assert re.search(r'^ab_test_requests_total\{model_version="1"\} 100\.0$', text, re.MULTILINE)
    assert re.search(r"^active_models_count 2\.0$", text, re.MULTILINE)
    for name in ("ab_test_requests_total", "model_version_predictions_total", "prediction_errors_total"):
        assert f"# TYPE {name} counter" in text
    assert "# TYPE active_models_count gauge" in text


def test_the_access_log_is_opened_anew_when_it_was_moved_and_loses_nothing(tmp_path: Path) -> None:
    """OB-08's neighbour: structured lines, whole ones, in the file of that name."""
    path = tmp_path / "logs" / "access.jsonl"
    log = AccessLog(path)
    log.line("POST", "/invocations", 200, 0.12345, 19, "m", "1", "champion", "split", 'r"1')
    log.line("GET", "/nowhere", 404, 1.0, 5)
    log.flush()
    moved = path.rename(path.with_suffix(".1"))
    log.line("POST", "/invocations", 200, 1.0, 19, "m", "1", "champion", None, "r-2")
    log.close()
    first, second = (json.loads(line) for line in moved.read_text().splitlines())
    (third,) = (json.loads(line) for line in path.read_text().splitlines())

    assert first.pop("time").endswith("+00:00")
    assert first == {
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "ms": 0.123,
        "bytes": 19,
        "model": "m",
        "version": "1",
        "arm": "champion",
        "reason": "split",
        "request_id": 'r"1',
    }
    assert second.keys() == {"time", "method", "path", "status", "ms", "bytes"}
    assert third["request_id"] == "r-2"
    assert "reason" not in third


def test_a_disk_that_takes_no_line_is_counted_and_never_raised(tmp_path: Path) -> None:
    lost: list[int] = []
    log = AccessLog(tmp_path, on_loss=lost.append)
    log.line("POST", "/invocations", 200, 1.0, 19)
    log.line("POST", "/invocations", 200, 1.0, 19)
    log.close()

    assert lost == [2]


def test_the_service_log_is_one_object_per_line_with_the_traceback_in_it() -> None:
    error = ValueError("two\nlines")
    broke = (ValueError, error, None)
    record = logging.LogRecord("headgate", logging.ERROR, "", 0, "it %s", ("broke",), broke)
    line = JsonLines().format(record)

    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["message"], told["logger"]) == ("ERROR", "it broke", "headgate")
    assert "two\nlines" in told["traceback"]
