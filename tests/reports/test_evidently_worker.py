"""Evidently in a process of its own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from headgate.reports.evidently_worker import (
    CURRENT,
    REFERENCE,
    Order,
    ReportFailedError,
    run,
    write_rows,
)


def columns(shift: float, rows: int = 300) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(5)
    return {
        "age": rng.normal(40 + shift, 10, rows),
        "steady": rng.normal(0, 1, rows),
        "flat": np.ones(rows),
        "gone": np.full(rows, np.nan) if shift else np.ones(rows),
        "city": rng.choice(np.array(["Bern", "Graz", None], dtype=object), rows),
    }


def an_order(folder: Path) -> Order:
    return Order("risk on 2026-03-02", str(folder), ("age", "steady", "flat", "gone"), ("city",))


def test_a_report_is_made_that_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_rows(tmp_path / CURRENT, columns(15))
    write_rows(tmp_path / REFERENCE, columns(0))
    made = run(an_order(tmp_path))

    assert (made.columns, made.drifted, made.left_out) == (4, 1, {"gone": "no value on one side"})
    assert len(json.loads(made.json.read_text())["metrics"]) >= 5
    assert not re.findall(r"(?:src|rel=.stylesheet. href)=.https?://", made.html.read_text())


def test_rows_that_can_not_be_read_are_an_error_that_says_what_stands(tmp_path: Path) -> None:
    for name in (CURRENT, REFERENCE):
        (tmp_path / name).write_bytes(b"no parquet")

    with pytest.raises(ReportFailedError, match="headgate's own report stands without it"):
        run(an_order(tmp_path))


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ReportFailedError, match=r"not ready after 0\.1 s"):
        run(an_order(tmp_path), timeout_s=0.1)
