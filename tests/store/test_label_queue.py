"""What is worth labelling first, and that asking for it favours neither version."""

from datetime import timedelta
from typing import Any

import pytest

from headgate.core.rollout import Rollout
from headgate.store import PredictionLog, Store
from headgate.store.codec import utc_now
from tests.store.making import a_prediction, a_rollout, an_outcome

NOW = utc_now().replace(microsecond=0)


@pytest.fixture
def rollout() -> Rollout:
    return a_rollout(created_at=NOW - timedelta(hours=1))


def row(request_id: str, confidence: float | None = 0.9, arm: str = "challenger", **changes: Any) -> Any:
    version = "2" if arm == "champion" else "3"
    fields = {"time": NOW, "confidence": confidence, "arm": arm, "version": version, "inputs": {"x": 1}}
    return a_prediction(request_id, **(fields | changes))


def shadow(request_id: str, confidence: float, beside: float, agrees: bool = False) -> Any:
    theirs = "7" if agrees else "1"
    return row(
        request_id,
        confidence,
        "shadow",
        champion_prediction=theirs,
        champion_confidence=beside,
        agrees=agrees,
    )


def queue(store: Store, rollout: Rollout, limit: int = 100) -> list[str]:
    return [item["request_id"] for item in store.label_queue(rollout, limit)]


def test_disagreements_come_first_the_widest_gap_before_the_least_sure(
    log: PredictionLog, store: Store, rollout: Rollout
) -> None:
    log.append_many(
        [
            row("sure", 0.99), row("unsure", 0.51),
            shadow("same", 0.4, 0.4, agrees=True),
            shadow("near", 0.9, 0.8), shadow("lower", 0.5, 0.4), shadow("wide", 0.9, 0.3),
        ]
    )  # fmt: skip
    log.flush()

    assert queue(store, rollout)[:3] == ["wide", "lower", "near"]
    assert queue(store, rollout).index("unsure") < queue(store, rollout).index("sure")
    assert queue(store, rollout, 2) == ["wide", "lower"]


def test_both_versions_are_asked_about_from_the_bottom_of_their_own_ranking(
    log: PredictionLog, store: Store, rollout: Rollout
) -> None:
    """Labels for one version's unsure answers alone would make it look worse than it is."""
    log.append_many([row(f"t{i}", 0.1 + 0.08 * i) for i in range(11)])
    log.append_many([row(f"c{i}", 0.5 + 0.04 * i, "champion") for i in range(11)])
    log.flush()

    assert sorted(queue(store, rollout, 6)) == ["c0", "c1", "c2", "t0", "t1", "t2"]


def test_what_has_a_label_or_no_answer_is_not_asked_about(
    log: PredictionLog, store: Store, rollout: Rollout
) -> None:
    log.append_many(
        [
            row("open"), row("done"), row("failed", None, prediction=None, error="model"),
            row("f", arm="champion", reason="fallback"), row("x", arm="champion", reason="excluded"),
            row("old", time=rollout.created_at - timedelta(minutes=1)), row("other", rollout_id="iris-v3-1"),
        ]
    )  # fmt: skip
    log.flush()
    log.append_outcomes([an_outcome("done")])

    assert queue(store, rollout) == ["open"]


def test_each_row_says_what_both_versions_answered(
    log: PredictionLog, store: Store, rollout: Rollout
) -> None:
    """The same request was answered by the champion and mirrored: it is asked about once."""
    log.append_many(
        [row("r", 0.8, "champion", prediction="1"), shadow("r", 0.6, 0.8), row("c", 0.7, "champion")]
    )
    log.flush()
    first, second = store.label_queue(rollout, 10)

    assert (first["request_id"], first["row"], first["time"], first["model"], first["tenant"]) == (
        "r", 0, NOW, "digits", "default",
    )  # fmt: skip
    assert (first["challenger_prediction"], first["champion_prediction"]) == ("7", "1")
    assert (first["challenger_confidence"], first["champion_confidence"]) == (0.6, 0.8)
    assert (second["challenger_prediction"], second["champion_prediction"]) == (None, "7")
    assert first["inputs"] == {"x": 1}
