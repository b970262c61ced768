"""`headgate performance`."""

import json
from datetime import UTC, datetime, timedelta

from headgate.cli.performing import spark
from headgate.store import Store
from headgate.store.performance import VersionDay
from tests.cli.conftest import Run


def test_the_history_is_told_as_a_table_with_a_chart(run: Run, store: Store) -> None:
    """DR-01."""
    today = datetime.now(UTC).date()
    days = [
        VersionDay(
            "1", today - timedelta(days=ago), 100, 100, 2, 98, 90 - ago, accuracy=(90 - ago) / 98, pr_auc=0.8
        )
        for ago in (3, 2, 1)
    ]
    store.save_performance("default", "risk", days)

    code, out, _ = run("performance", "risk")

    assert code == 0
    assert "accuracy  ▁▅█  0.888 to 0.908" in out
    assert str(days[0].day) in out


def test_the_history_is_told_as_json(run: Run, store: Store) -> None:
    today = datetime.now(UTC).date()
    store.save_performance(
        "default", "risk", [VersionDay("1", today, 5, 5, 5, 0, 0, error_rate=1.0, notes=("no",))]
    )

    _, out, _ = run("performance", "risk", "--json", "--days", "3")

    (one,) = json.loads(out)
    assert (one["day"], one["error_rate"], one["accuracy"], one["notes"]) == (
        today.isoformat(),
        1.0,
        None,
        ["no"],
    )


def test_a_model_without_figures_is_not_found(run: Run) -> None:
    code, _, said = run("performance", "nothing")

    assert code == 3
    assert "collect_metrics" in said


def test_a_chart_of_equal_values_is_flat() -> None:
    assert spark([0.5, 0.5, float("nan")]) == "▄▄·"
    assert spark([]) == ""
