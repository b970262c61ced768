"""How a step's traffic hangs together by key."""

import random
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from headgate.core.rollout import Phase
from headgate.core.stats.design_effect import design_effect
from headgate.store import PredictionLog, Store
from tests.store.making import NOON, a_prediction, a_rollout, an_outcome

NOW = NOON + timedelta(minutes=10)


def logged(log: PredictionLog, *rows: Any) -> None:
    log.append_many(rows)
    assert log.flush()


def row(request_id: str, key: str, arm: str = "challenger", **changes: Any) -> Any:
    version = "2" if arm in ("champion", "holdback") else "3"
    time = NOON + timedelta(seconds=30)
    return a_prediction(request_id, **({"time": time, "key": key, "arm": arm, "version": version} | changes))


def test_keys_are_counted_by_arm_and_those_on_both(log: PredictionLog, store: Store) -> None:
    """A champion's answer in a failed challenger's place, or to an excluded segment, moves nobody."""
    logged(
        log,
        *[row(f"t{i}", f"u{i % 3}") for i in range(9)],
        *[row(f"c{i}", f"w{i}", "champion") for i in range(5)],
        row("both", "u0", "champion"),
        row("f", "u1", "champion", reason="fallback"),
        row("x", "u2", "champion", reason="excluded"),
        row("s", "w1", arm="shadow"),
        row("old", "w2", time=NOON - timedelta(seconds=5)),
        row("settling", "w3", time=NOON + timedelta(seconds=5)),
    )
    clusters = store.read_clusters(a_rollout(), NOW)

    assert (clusters.keys, clusters.both, clusters.weight_percent) == ((3, 6), 1, 5.0)


def test_the_hold_back_stands_for_the_champion_while_watching(log: PredictionLog, store: Store) -> None:
    logged(log, row("t", "u1", version="3", arm="champion"), row("h", "u2", "holdback", reason="holdback"))
    watching = a_rollout(phase=Phase.WATCHING, promoted_at=NOON, weight_percent=100.0)
    clusters = store.read_clusters(watching, NOW)

    assert (clusters.keys, clusters.both, clusters.weight_percent) == ((1, 1), 0, 95.0)


@pytest.mark.parametrize(
    "changes",
    [{"phase": Phase.SHADOWING, "weight_percent": 0.0}, {"effective_since": None}],
    ids=["shadow", "not yet"],
)
def test_nothing_hangs_together_before_users_meet_the_challenger(
    log: PredictionLog, store: Store, changes: dict[str, Any]
) -> None:
    logged(log, row("t", "u1"))

    assert store.read_clusters(a_rollout(**changes), NOW).keys == (0, 0)


def test_the_design_effect_is_that_of_the_users_counts(log: PredictionLog, store: Store) -> None:
    rng = random.Random(5)
    n, x, wrong, rows, labels = [], [], [], [], []
    for user in range(60):
        often, size = rng.random() < 0.2, rng.randint(2, 9)
        failed = [rng.random() < (0.7 if often else 0.02) for _ in range(size)]
        missed = [rng.random() < (0.6 if often else 0.05) for _ in range(size)]
        for i, (fails, misses) in enumerate(zip(failed, missed, strict=True)):
            name = f"u{user}-{i}"
            said = {"prediction": None, "error": "model", "confidence": None} if fails else {}
            rows.append(row(name, f"u{user}", "champion", **said))
            labels.append(an_outcome(name, "1" if misses else "7"))
        n.append(size)
        x.append(sum(failed))
        answered = [misses for fails, misses in zip(failed, missed, strict=True) if not fails]
        wrong.append((len(answered), sum(answered)))
    logged(log, *rows)
    log.append_outcomes(labels)
    deff = store.read_clusters(a_rollout(), NOW).deff
    answered_n, answered_x = np.array([one for one in wrong if one[0]]).T

    assert deff["errors"] == pytest.approx(design_effect(n, x))
    assert deff["errors"] > 2
    assert deff["wrong"] == pytest.approx(design_effect(answered_n, answered_x))
    assert "slow" not in deff  # every answer took 5 ms


def test_rows_of_one_request_hang_together(log: PredictionLog, store: Store) -> None:
    """A request of many rows is as slow, and fails, as a whole."""
    rng = random.Random(6)
    rows = []
    for request in range(200):
        slow = rng.random() < 0.05
        rows += [
            row(f"r{request}", f"r{request}", "champion", row=i, latency_ms=50.0 if slow else 5.0)
            for i in range(8)
        ]
    logged(log, *rows)

    # All 8 rows of a request are alike: the variance of their rate is 8 times that of independent ones.
    assert store.read_clusters(a_rollout(), NOW).deff["slow"] == pytest.approx(8, rel=0.05)


def test_both_arms_enter_by_their_share_of_the_variance(log: PredictionLog, store: Store) -> None:
    rows = [row(f"t{u}-{i}", f"t{u}", error="model" if u < 5 else None) for u in range(40) for i in range(4)]
    rows += [row(f"c{u}", f"c{u}", "champion", error="model" if u < 100 else None) for u in range(1600)]
    logged(log, *rows)
    mine = design_effect([4] * 40, [4] * 5 + [0] * 35)

    assert store.read_clusters(a_rollout(), NOW).deff["errors"] == pytest.approx(
        (mine / 160 + 1 / 1600) / (1 / 160 + 1 / 1600), rel=0.01
    )


def test_confidences_foretell_a_challenger_that_is_less_sure_lately(log: PredictionLog, store: Store) -> None:
    """Labels are there for the older answers only; the newer ones have lower confidences on the challenger's side."""
    random_ = random.Random(5)
    rows, labels = [], []
    for i in range(1600):
        for arm in ("challenger", "champion"):
            lately = i >= 600
            confidence = 0.6 if lately and arm == "challenger" else random_.choice([0.6, 0.95])
            name = f"{arm[:3]}{i}{arm[3:5]}"
            rows.append(row(name, name, arm, confidence=confidence, prediction="1"))
            if not lately:
                labels.append(an_outcome(name, label="1" if random_.random() < confidence else "0"))
    logged(log, *rows)
    log.append_outcomes(labels)
    assert store.read_clusters(a_rollout(), NOW).estimate is not None
    own, champions, error = store.read_clusters(a_rollout(), NOW).estimate or (0.0, 0.0, 0.0)

    assert own == pytest.approx((0.775 * 600 + 0.6 * 1000) / 1600, abs=0.04)
    assert champions == pytest.approx(0.775, abs=0.04)
    assert champions - own > 2 * error > 0


def test_a_few_labels_foretell_nothing(log: PredictionLog, store: Store) -> None:
    logged(
        log,
        *[
            row(f"{arm}{i}", f"u{i}", arm, confidence=0.9)
            for i in range(50)
            for arm in ("challenger", "champion")
        ],
    )
    log.append_outcomes([an_outcome(f"challenger{i}") for i in range(50)])

    assert store.read_clusters(a_rollout(), NOW).estimate is None


def test_in_shadow_the_champions_answers_tell_how_alike_a_keys_answers_are(
    log: PredictionLog, store: Store
) -> None:
    """A request of many rows that only the challenger fails on is one failure in shadow, too."""
    rows = [
        row(f"r{request}", f"r{request}", "champion", row=i, latency_ms=50.0 if request < 10 else 5.0)
        for request in range(200)
        for i in range(8)
    ]
    logged(log, *rows)
    clusters = store.read_clusters(a_rollout(phase=Phase.SHADOWING, weight_percent=0.0), NOW)

    assert clusters.keys == (0, 0)
    assert clusters.deff["slow"] == pytest.approx(8, rel=0.05)
