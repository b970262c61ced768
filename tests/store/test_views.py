"""The documents' SQL works word for word."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.rollout import Phase
from headgate.store import PredictionLog, Store
from headgate.store.codec import utc_now
from tests.store.making import a_prediction, a_result, a_rollout, an_outcome

Query = Callable[..., list[Any]]
ID = "digits-v3-1"
SPLIT = "target_split, actual_split, delta, control_count, treatment_count, within_tolerance"


@pytest.fixture
def filled(log: PredictionLog, store: Store) -> Store:
    """A rollout at 5 percent with 190 champion, 10 challenger and 4 shadow rows of just now."""
    now = utc_now()
    store.create(
        a_result(a_rollout(created_at=now, effective_since=now.replace(minute=0, second=0))), actor="anna"
    )
    beside = {"champion_prediction": "7", "champion_confidence": 0.8, "champion_latency_ms": 4.0}
    log.append_many(
        [
            *[
                a_prediction(f"c{i}", time=now, arm="champion", version="2", latency_ms=4.0)
                for i in range(190)
            ],
            *[a_prediction(f"t{i}", time=now, segment={"symbol": "EURUSD"}) for i in range(10)],
            *[a_prediction(f"s{i}", time=now, arm="shadow", agrees=i < 3, **beside) for i in range(4)],
            a_prediction("f", time=now, arm="champion", version="2", reason="fallback", latency_ms=4.0),
        ]
    )
    assert log.flush()
    log.append_outcomes([an_outcome(f"t{i}", "7" if i < 4 else "1") for i in range(5)])
    return store


def test_configs_show_each_rollout_in_the_documents_words(filled: Store, query: Query) -> None:
    """DB-01."""
    wanted = "mode, control_model, treatment_model, traffic_split, enabled"
    before = query(f"SELECT {wanted} FROM ab_test_configs WHERE test_id = %s", ID)
    rollout = filled.get(ID)
    filled.commit(rollout, a_result(rollout, phase=Phase.ROLLED_BACK, weight_percent=0.0), actor="anna")

    assert before == [("traffic_split", "models:/digits/2", "models:/digits/3", 0.05, True)]
    assert query(f"SELECT {wanted} FROM ab_test_configs")[0][0::4] == ("disabled", False)


def test_results_show_both_sides_of_each_row(filled: Store, query: Query) -> None:
    """DB-02."""
    groups = dict(
        query("SELECT assigned_group, count(*) FROM ab_test_results WHERE test_id = %s GROUP BY 1", ID)
    )
    shadow = query(
        "SELECT control_action, treatment_action, actions_match, confidence_delta, latency_delta_ms"
        " FROM ab_test_results WHERE request_id = 's0'"
    )

    assert groups == {"control": 191, "treatment": 10, "shadow": 4}
    assert shadow == [("7", "7", True, pytest.approx(0.1), 1.0)]
    assert query("SELECT DISTINCT symbol FROM ab_test_results WHERE assigned_group = 'treatment'") == [
        ("EURUSD",)
    ]


@pytest.mark.parametrize("name", ["hourly", "daily"])
def test_metrics_are_aggregated(filled: Store, query: Query, name: str) -> None:
    """DB-03."""
    row = query(
        f"SELECT agreement_rate, avg_latency_delta_ms, total_samples FROM ab_test_metrics_{name}"
        f" WHERE test_id = '{ID}' ORDER BY bucket DESC LIMIT 1"
    )

    assert row == [(0.75, 1.0, 205)]


def test_the_summary_compares_the_groups(filled: Store, query: Query) -> None:
    """DB-04."""
    rows = query(f"SELECT assigned_group, samples, avg_latency_ms, accuracy FROM get_ab_test_summary('{ID}')")

    assert rows == [("control", 191, 4.0, None), ("shadow", 4, 5.0, None), ("treatment", 10, 5.0, 0.8)]


def test_the_split_is_verified_without_the_fallbacks(filled: Store, query: Query) -> None:
    """DB-04, RT-05."""
    row = query(f"SELECT {SPLIT} FROM verify_traffic_split('{ID}', hours_back => 1)")

    assert row == [(0.05, 0.05, 0.0, 190, 10, True)]
    assert query(f"SELECT within_tolerance FROM verify_traffic_split('{ID}')") == [(True,)]
    assert query("SELECT * FROM verify_traffic_split('nothing', 1)") == []


def test_while_it_is_watched_the_hold_back_is_the_control(
    filled: Store, log: PredictionLog, query: Query
) -> None:
    """DB-02, DB-03, DB-04: the promoted challenger answers as champion, the old champion as hold-back."""
    now = utc_now()
    rollout = filled.get(ID)
    since = now + timedelta(seconds=1)
    watching = a_result(
        rollout, phase=Phase.WATCHING, weight_percent=100.0, promoted_at=since, effective_since=since
    )
    filled.commit(rollout, watching, actor="anna")
    later = {"time": now + timedelta(seconds=2)}
    log.append_many([a_prediction(f"p{i}", arm="champion", version="3", **later) for i in range(95)])
    log.append_many(
        [a_prediction(f"h{i}", arm="holdback", version="2", reason="holdback", **later) for i in range(5)]
    )
    log.append(a_prediction("x", arm="holdback", version="2", reason="excluded", **later))
    assert log.flush()
    groups = query("SELECT assigned_group, count(*) FROM ab_test_results WHERE test_id = %s GROUP BY 1", ID)
    metrics = query("SELECT sum(control_count)::int, sum(treatment_count)::int FROM ab_test_metrics_daily")
    summary = query(f"SELECT assigned_group, samples FROM get_ab_test_summary('{ID}')")

    assert dict(groups) == {"control": 197, "treatment": 105, "shadow": 4}
    assert metrics == [(197, 105)]
    assert summary == [("control", 197), ("shadow", 4), ("treatment", 105)]
    assert query(f"SELECT {SPLIT} FROM verify_traffic_split('{ID}')") == [(0.95, 0.95, 0.0, 5, 95, True)]
