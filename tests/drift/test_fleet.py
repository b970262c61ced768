"""A thousand tenants at once."""

import numpy as np

from headgate import drift
from headgate.core.drift.grid import learn_grid
from headgate.core.drift.sums import count
from headgate.services import Services
from headgate.store.feature_days import KeptGrid
from tests.drift.telling import day

TENANTS = 1000
MOVED = 20
DAYS = 12


def fill(services: Services, model: str) -> None:
    """Twelve days of a thousand tenants' sums; on the last one the first twenty have moved.

    The few kinds of days are counted once and written under many names: what is tested begins at the sums.
    """
    rng = np.random.default_rng(3)

    def rows(shift: float = 0.0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        return {name: rng.normal(shift if name == "b" else 0.0, 1, 600) for name in ("a", "b", "c")}

    grid = learn_grid(rows())
    quiet, moved = [count(grid, rows()) for _ in range(40)], count(grid, rows(2.0))
    kept = KeptGrid(since=day(0), version="1", champion="1", seen=day(0), grid=grid)
    services.store.save_grid("t0", model, kept)
    packed = [one.pack() for one in quiet]
    with services.store.db.cursor() as cursor:
        names = [f"t{number}" for number in range(TENANTS)]
        cursor.execute("SELECT * FROM feature_grids WHERE tenant = 't0' AND model = %s", [model])
        columns = [one.name for one in cursor.description or ()]
        row = dict(zip(columns, cursor.fetchone() or (), strict=True))
        with cursor.copy(f"COPY feature_grids ({', '.join(columns)}) FROM STDIN") as copy:
            for name in names[1:]:
                copy.write_row([{**row, "tenant": name}[column] for column in columns])
        with cursor.copy(
            "COPY feature_days (tenant, model, day, grid_revision, rows, sums) FROM STDIN"
        ) as copy:
            for place, name in enumerate(names):
                for number in range(DAYS):
                    is_moved = number == DAYS - 1 and place < MOVED
                    sums = moved.pack() if is_moved else packed[(place * 7 + number) % len(packed)]
                    copy.write_row([name, model, day(number), grid.revision, 600, sums])


def test_of_a_thousand_tenants_only_those_that_moved_are_told_and_published(
    services: Services, model: str
) -> None:
    """MT-01: each is judged by itself, from sums alone."""
    fill(services, model)
    keys = drift.subjects_of(services, day(DAYS - 1), model=model)
    judged = drift.judge_subjects(services, day(DAYS - 1), keys)
    again = drift.judge_subjects(services, day(DAYS - 1), keys)
    alerts = services.store.open_alerts(keys)
    moved = {f"t{number}" for number in range(MOVED)}

    assert (len(keys), len(judged.reports), judged.failed) == (TENANTS, TENANTS, {})
    assert {report.tenant for report in judged.moved} == moved
    assert {report.causes for report in judged.moved} == {("column:b",)}
    assert {tenant for tenant, _ in alerts} == moved
    assert [one.times for ones in alerts.values() for one in ones] == [1] * MOVED
    assert {(one.tenant, one.severity) for one in again.reports} == {
        (one.tenant, one.severity) for one in judged.reports
    }
    assert f"{TENANTS - MOVED} no drift" in judged.summary()
