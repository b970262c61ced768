"""Which days of the log are learnt from, and where each is read: in PostgreSQL, or in the archive once it left it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from headgate.store.arms import SHADOW
from headgate.store.labelled_rows import CHUNK, LabelledRow
from headgate.store.store import Store
from headgate.training.maturity import MATURE, DayCount, mature_days

if TYPE_CHECKING:
    from headgate.artifacts import Artifacts

_COLUMNS = [*LabelledRow._fields, "arm", "error", "prediction"]
Reader = Callable[[], Iterator[list[LabelledRow]]]


@dataclass(frozen=True, slots=True)
class Days:
    """The days within reach.

    Attributes:
        counts: of every day with traffic that is not quarantined. used: those to learn from, oldest first.
        quarantined: left out, with traffic or without. usual: share of labels (0-1) by which maturity is judged.
    """

    counts: Mapping[date, DayCount]
    used: tuple[date, ...]
    quarantined: tuple[date, ...]
    quarantined_labelled: int
    usual: float | None
    archived: frozenset[date]
    readers: Mapping[date, Reader]

    @property
    def served(self) -> int:
        """Answers of all days, quarantined ones without labels not counted."""
        return sum(one.served for one in self.counts.values()) + self.quarantined_labelled

    @property
    def labelled(self) -> int:
        """Those with a label, quarantined ones too."""
        return sum(one.labelled for one in self.counts.values()) + self.quarantined_labelled

    def read(self, day: date) -> Iterator[list[LabelledRow]]:
        """A day's labelled rows in chunks."""
        return self.readers[day]()

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of them."""
        late = sorted(day for day, one in self.counts.items() if one.served and day not in self.used)
        bound = (
            "only one day: taken as it is"
            if self.usual is None
            else f"the newest days with less than {MATURE:g} of the usual share of labels ({self.usual:.1%}) are left out"
        )
        return {
            "counts": {
                f"{day}": {"answers": one.served, "labelled": one.labelled}
                for day, one in sorted(self.counts.items())
            },
            "used": [f"{day}" for day in self.used],
            "immature": [f"{day}" for day in late],
            "maturity": bound,
            "quarantined": [f"{day}" for day in self.quarantined],
            "from_archive": [f"{day}" for day in sorted(self.archived)],
        }


def read_days(
    store: Store,
    archive: "Artifacts | None",
    tenant: str,
    model: str,
    now: datetime,
    train_on: timedelta,
    quarantined: frozenset[date],
) -> Days:
    """Count answers and labels of every day within reach, and choose the days to learn from."""
    today, first = now.astimezone(UTC).date(), (now - train_on).astimezone(UTC).date()
    gone = _dropped(store, tenant, model, first, today) if archive is not None else {}
    counts: dict[date, DayCount] = {}
    readers: dict[date, Reader] = {}
    lost = 0
    for offset in range((today - first).days + 1):
        day = first + timedelta(days=offset)
        # A reach of hours begins within its first day; an archived first day is taken whole.
        count = DayCount(*store.count_labelled(tenant, model, day, now, until=now, since=now - train_on))
        reader: Reader = partial(
            store.labelled_rows, tenant, model, day, now, until=now, since=now - train_on
        )
        if archive is not None and day in gone:
            # Rows that came after the day had left are in the log.
            count = DayCount(count.served + gone[day].served, count.labelled + gone[day].labelled)
            reader = partial(_both, reader, partial(_archived, store, archive, tenant, model, day, now))
        if day in quarantined:
            lost += count.labelled
        elif count.served:
            counts[day], readers[day] = count, reader
    used, usual = mature_days(counts)
    left_out = tuple(sorted(day for day in quarantined if first <= day <= today))
    return Days(
        counts,
        tuple(day for day in used if counts[day].labelled),
        left_out,
        lost,
        usual,
        frozenset(set(gone) & set(used)),
        readers,
    )


def _dropped(store: Store, tenant: str, model: str, first: date, last: date) -> dict[date, DayCount]:
    """Rows and labels of each day that left the log, shadow answers counted with the others."""
    found: dict[date, DayCount] = {}
    for part in store.archived(tenant, model, first, last):
        if part.dropped_at is not None:
            before = found.get(part.day, DayCount(0, 0))
            found[part.day] = DayCount(before.served + part.rows, before.labelled + part.labels)
    return found


def _both(first: Reader, second: Reader) -> Iterator[list[LabelledRow]]:
    yield from first()
    yield from second()


def _archived(
    store: Store, archive: "Artifacts", tenant: str, model: str, day: date, now: datetime
) -> Iterator[list[LabelledRow]]:
    """An archived day's labelled answers, in the order of the file.

    Raises:
        ArtifactsUnavailableError: the archive is away; says which day can't be read.
    """
    from headgate.archive import read_day

    rows: list[LabelledRow] = []
    for batch in read_day(store, archive, tenant, model, day, columns=_COLUMNS, batch_rows=CHUNK):
        for one in batch.to_pylist():
            served = one["arm"] != SHADOW and one["error"] is None and one["prediction"] is not None
            known = one["label"] is not None and one["labelled_at"] <= now and one["time"] < now
            if served and known:
                rows.append(LabelledRow(*(one[name] for name in LabelledRow._fields)))
        if len(rows) >= CHUNK:
            yield rows
            rows = []
    if rows:
        yield rows
