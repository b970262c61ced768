"""Reading a logged history: what is wrong with it is said by name, value and fix."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.backtest.columns import MISSING
from headgate.backtest.history import read_history
from headgate.backtest.trial import prepare
from headgate.core.spec import RolloutSpec
from headgate.errors import HistoryError
from tests.backtest.histories import Plan, Version, write

SPEC = RolloutSpec(model="m")
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
SMALL = Plan(requests=400, hours=1, users=50)


def rows(**changes: Any) -> dict[str, pa.Array]:
    """Two requests that both versions answered."""
    table = {
        "time": pa.array([AT] * 4, pa.timestamp("us", tz="UTC")),
        "request_id": pa.array(["a", "b", "a", "b"]),
        "user_id": pa.array(["u", "v", "u", "v"]),
        "version": pa.array(["1", "1", "2", "2"]),
        "prediction": pa.array(["x", "y", "x", "x"]),
        "confidence": pa.array([0.9, 0.8, 0.7, 0.6]),
        "latency_ms": pa.array([1.0, 2.0, 3.0, 4.0]),
        "error": pa.array([None, None, None, None], pa.string()),
    }
    return {name: value for name, value in {**table, **changes}.items() if value is not None}


def labels(**changes: Any) -> dict[str, pa.Array]:
    """Both requests were x."""
    table = {
        "time": pa.array([AT, AT], pa.timestamp("us", tz="UTC")),
        "request_id": pa.array(["a", "b"]),
        "label": pa.array(["x", "x"]),
    }
    return {name: value for name, value in {**table, **changes}.items() if value is not None}


def export(
    folder: Path, predictions: dict[str, pa.Array] | None = None, outcomes: dict[str, pa.Array] | None = None
) -> Path:
    pq.write_table(pa.table(predictions or rows()), folder / "predictions.parquet")
    pq.write_table(pa.table(outcomes or labels()), folder / "outcomes.parquet")
    return folder


def test_a_folder_of_files_is_read_as_one_table(tmp_path: Path) -> None:
    """BT: `predictions` may be a file or a folder of files."""
    one = write(tmp_path / "one", (Version("1"), Version("2")), SMALL)
    many = tmp_path / "many"
    (many / "predictions").mkdir(parents=True)
    table = pq.read_table(one / "predictions.parquet")
    pq.write_table(table.slice(0, 300), many / "predictions" / "a.parquet")
    pq.write_table(table.slice(300), many / "predictions" / "b.parquet")
    (many / "outcomes.parquet").write_bytes((one / "outcomes.parquet").read_bytes())

    first, second = read_history(one, SPEC), read_history(many, SPEC)

    assert len(first) == 800
    for name in ("time_us", "prediction", "label", "label_us", "error"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_labels_find_their_predictions_and_the_first_one_counts(tmp_path: Path) -> None:
    later = AT.replace(hour=13)
    given = labels(
        time=pa.array([later, AT, AT], pa.timestamp("us", tz="UTC")),
        request_id=pa.array(["a", "a", "nobody"]),
        label=pa.array(["y", "x", "x"]),
    )
    history = read_history(export(tmp_path, outcomes=given), SPEC)

    assert history.label[0] == history.prediction[0]
    assert history.label_us[0] == int(AT.timestamp() * 1e6)
    assert history.label[1] == MISSING
    assert any("first one counts" in note for note in history.notes)
    assert any("no known request" in note for note in history.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": None}, "has no column version"),
        ({"latency_ms": None}, "check latency reads it"),
        ({"confidence": None}, "check confidence_drift reads it"),
        ({"time": pa.array([1.0, 2.0, 3.0, float("nan")])}, "column time is double, not a timestamp"),
        ({"time": pa.array([AT.replace(tzinfo=None)] * 4, pa.timestamp("us"))}, "without a time zone"),
        (
            {"time": pa.array([AT, None, AT, AT], pa.timestamp("us", tz="UTC"))},
            "is null in 1 rows (first: row 1)",
        ),
        ({"latency_ms": pa.array([1.0, -2.0, 3.0, 4.0])}, "has 1 values like -2"),
        ({"latency_ms": pa.array(["fast"] * 4)}, "column latency_ms is string, not a number"),
        ({"confidence": pa.array([0.9, 1.8, 0.7, 0.6])}, "must be finite and from 0 to 1"),
        ({"request_id": pa.array(["a", "a", "a", "b"])}, "1 rows again for the same request_id and version"),
        ({"prediction": pa.array([1.5, 2.0, 1.0, 1.0])}, "write both as text, or both as numbers"),
        ({"request_id": pa.array([1.5, 2.5, 1.5, 2.5])}, "column request_id is double, not text"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(HistoryError) as refused:
        read_history(export(tmp_path, rows(**changes)), SPEC)
    assert said in str(refused.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="does not exist"):
        read_history(tmp_path / "nowhere", SPEC)
    with pytest.raises(HistoryError, match="has no predictions"):
        read_history(tmp_path, SPEC)
    pq.write_table(pa.table(rows()), tmp_path / "predictions.parquet")
    with pytest.raises(HistoryError, match=r"has no outcomes; add outcomes\.parquet: check accuracy"):
        read_history(tmp_path, SPEC)
    (tmp_path / "predictions.parquet").write_bytes(b"no parquet")
    with pytest.raises(HistoryError, match="can't be read as Parquet"):
        read_history(tmp_path, SPEC)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    empty = pa.table(rows()).slice(0, 0)
    with pytest.raises(HistoryError, match="is empty"):
        read_history(export(tmp_path, {name: empty[name] for name in empty.column_names}), SPEC)


def test_columns_of_disabled_checks_may_be_absent(tmp_path: Path) -> None:
    off = {name: {"enabled": False} for name in ("latency", "confidence_drift", "error_rate", "throughput")}
    spec = RolloutSpec(model="m", overrides=off)
    export(tmp_path, rows(latency_ms=None, confidence=None, error=None, user_id=None))

    history = read_history(tmp_path, spec)

    assert np.isnan(history.latency_ms).all()
    assert (history.error == MISSING).all()
    assert any("user_id" in note for note in history.notes)


def test_numbers_are_right_where_they_are_equal(tmp_path: Path) -> None:
    """1 and 1.0 are one answer; NaN is none."""
    export(
        tmp_path,
        rows(prediction=pa.array([1.0, float("nan"), 2.0, 1.0])),
        labels(label=pa.array([1, 1])),
    )
    trial = prepare(read_history(tmp_path, SPEC), "1", "2")

    assert trial.champion.rows.right.tolist() == [1, MISSING]
    assert trial.challenger.rows.right.tolist() == [0, 1]


def test_versions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    history = read_history(export(tmp_path), SPEC)

    with pytest.raises(HistoryError, match="has no version 7; name one of 1, 2"):
        prepare(history, "7", None)
    with pytest.raises(HistoryError, match="use --aa"):
        prepare(history, "1", "1")
    assert prepare(history, None, "1").champion_version == "2"
    assert prepare(history, None, None).champion_version == "1"


def test_three_versions_must_be_named(tmp_path: Path) -> None:
    history = read_history(export(tmp_path, rows(version=pa.array(["1", "1", "2", "3"]))), SPEC)
    with pytest.raises(HistoryError, match="say which is meant with --champion"):
        prepare(history, None, None)


def test_a_split_log_is_told_from_one_with_both_answers(tmp_path: Path) -> None:
    split = write(tmp_path / "split", (Version("1"), Version("2")), Plan(400, 1, both_arms=False))
    both = write(tmp_path / "both", (Version("1"), Version("2")), SMALL)

    assert prepare(read_history(both, SPEC), "1", "2").paired
    trial = prepare(read_history(split, SPEC), "1", "2")
    assert not trial.paired
    assert any("in name only" in note for note in trial.notes)
