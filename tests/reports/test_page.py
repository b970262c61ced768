"""The one-page picture."""

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.drift.grid import learn_grid
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import DriftReport, Estimate
from headgate.core.drift.sums import count
from headgate.drift.picture import Behind, facts_of
from headgate.reports import page
from headgate.reports.facts import rebinned
from tests.drift.telling import MONDAY, a_finding, a_report, day

PNG = b"\x89PNG\r\n"
RNG = np.random.default_rng(8)


def columns(rows: int, shift: float = 0.0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {
        "age": RNG.normal(40 + shift, 10, rows),
        "kids": RNG.poisson(1 + shift / 5, rows).astype(float),
        "<b>city</b>": RNG.choice(np.array(["Bern", "<script>", "Ulm"], dtype=object), rows),
        "flat": np.zeros(rows) if shift == 0 else RNG.normal(size=rows),
        "gone": RNG.normal(size=rows) if shift == 0 else np.full(rows, np.nan),
    }


def behind() -> Behind:
    grid = learn_grid(columns(3000))
    days = {MONDAY - timedelta(days=back): count(grid, columns(100, 0 if back else 10)) for back in range(61)}
    performance = [
        DailyPerformance(day(-back), version, outcomes, outcomes * 9 // 10, 200)
        for back in range(40)
        for version, outcomes in (("1", 100), ("2", back))
    ]
    history = [
        a_report(a_finding(), on=day(-1)),
        a_report(on=day(-2)),
        a_report(on=day(-3), status="collecting"),
    ]
    return Behind(grid, days, performance, history)


def a_full_report(**changes: object) -> DriftReport:
    findings = (
        a_finding("gone", "high", "gone"),
        *(a_finding(name) for name in ("age", "kids", "<b>city</b>", "flat")),
        a_finding("age ~ kids", "medium", "correlation"),
        a_finding("unknown", "low", "new"),
    )
    estimate = Estimate(0.86, 0.91, 0.05, 0.01, "medium", MONDAY, "Accuracy is probably 86 %.")
    return a_report(*findings, estimate=estimate, **changes)


def test_the_page_says_the_verdict_what_moved_and_what_to_do_and_loads_nothing() -> None:
    facts = facts_of(
        a_full_report(recommendation="investigate_pipeline"),
        behind(),
        {"mlflow": "http://127.0.0.1:5000/#/x"},
    )
    text = page.html(facts)

    assert page.png(facts).startswith(PNG)
    assert "Broken input: gone is gone" in text
    assert "Look into what feeds the model" in text
    assert [panel.column for panel in facts.panels] == ["gone", "age", "kids", "<b>city</b>", "flat"]
    assert "<script>" not in text
    assert "<b>city</b>" not in text
    assert not re.findall(r"(?:src=|@import|url\(['\"]?http)", text)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "collecting", "baseline": None, "window": None, "rows": 0},
        {"status": "insufficient_data", "rows": 3},
        {"status": "no_drift"},
    ],
)
def test_a_page_of_nothing_to_see_is_drawn_all_the_same(changes: dict[str, object]) -> None:
    report = a_report(**changes)
    facts = facts_of(report, Behind(), {})

    assert page.png(facts).startswith(PNG)
    assert report.day.isoformat()[:4] in page.html(facts)


def test_days_before_and_after_each_other_stand_in_order_on_the_timeline() -> None:
    facts = facts_of(a_full_report(), behind(), {})

    assert [one.day for one in facts.timeline] == [day(-3), day(-2), day(-1), day(0)]
    assert [one.severity for one in facts.timeline] == [None, "none", "medium", "high"]


def test_figures_of_a_days_versions_are_one_figure() -> None:
    found = {one.day: one for one in facts_of(a_full_report(), behind(), {}).performance}

    assert found[day(-30)].outcomes == 130
    assert found[day(-30)].matured == pytest.approx(130 / 400)


def test_values_without_end_are_drawn() -> None:
    known = behind()
    assert known.grid is not None
    wild = columns(500)
    wild["age"][:3] = (np.inf, -np.inf, 1e300)
    grid = learn_grid(wild)
    days = {one: count(grid, wild) for one in known.days}

    assert page.png(facts_of(a_full_report(), replace(known, grid=grid, days=days), {})).startswith(PNG)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40, unique=True).map(sorted),
    st.integers(0, 2**32 - 1),
)
def test_bars_hold_every_row_of_each_side(edges: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [rng.integers(0, 50, len(edges) + 1).astype(float) for _ in range(2)]
    bars, shares = rebinned(np.array(edges), *sides)

    assert len(bars) == len(shares[0]) + 1
    assert bool((np.diff(bars) > 0).all())
    for side, share in zip(sides, shares, strict=True):
        assert share.sum() == pytest.approx(1.0 if side.sum() else 0.0)
        assert bool((share >= -1e-12).all())
