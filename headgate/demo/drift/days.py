"""Simulated days in the real prediction log: the champion answers each patient, the diagnosis follows a day later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from headgate.demo.drift.models import MODEL, Diagnosis
from headgate.demo.drift.world import COLUMNS, Sample, World
from headgate.demo.fault import DemoError
from headgate.store.log import PredictionLog
from headgate.store.rows import OutcomeRow, PredictionRow

TENANT: Final = "default"
ROWS: Final = 520
"""Patients a day: as many as a judged day needs by default, and twenty."""
LABELLED: Final = 0.9
"""Share of patients whose diagnosis is ever told."""
LABEL_DELAY: Final = timedelta(hours=18)
MOVES_AT: Final = time(6, 0, tzinfo=UTC)
"""When the new microscope is switched on."""
_BATCHES: Final = 24
"""Patients come hour by hour: times that differ less make no difference to a day's sums, and cost less."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which past days are played.

    Attributes:
        first, last: the first and the last simulated day. moves: the one in which the world moves.
    """

    first: date
    last: date
    moves: date

    @property
    def days(self) -> Sequence[date]:
        """All, oldest first."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    @property
    def moved_at(self) -> datetime:
        """The moment of the move."""
        return datetime.combine(self.moves, MOVES_AT)


def calendar(today: date, *, days: int, moved: int) -> Calendar:
    """The `days` days before today, in the last `moved` of which the world is another."""
    return Calendar(today - timedelta(days=days), today - timedelta(days=1), today - timedelta(days=moved))


class Diary:
    """Writes days through the log's own journal and mover, as a gateway's rows go; `with` opens and closes it.

    Args:
        url: PostgreSQL. folder: for the journal. version: the champion's.
    """

    def __init__(self, url: str, folder: Path, world: World, champion: Diagnosis, version: str) -> None:
        self._log = PredictionLog(url, folder, writer_id="simulated-days", bucket_s=3600)
        self._world, self._champion, self._version = world, champion, version
        self._labels: list[OutcomeRow] = []
        self._random = np.random.default_rng(1)

    def __enter__(self) -> Self:
        self._log.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def write(self, day: date, moved_at: datetime) -> None:
        """Write one day's answers, and the diagnoses of the day before that have arrived by now.

        Raises:
            DemoError: PostgreSQL did not take them.
        """
        due, self._labels = self._labels, []
        for hour in range(_BATCHES):
            at = datetime.combine(day, time(hour, tzinfo=UTC))
            count = ROWS // _BATCHES + (hour < ROWS % _BATCHES)
            self._write_hour(at, self._world.measure("days", count, moved=at >= moved_at))
        if not self._log.flush():
            raise DemoError(
                f"the log of {day}", "PostgreSQL did not take it", self._log.stats.last_error or ""
            )
        self.tell(due)

    def tell(self, labels: Sequence[OutcomeRow] | None = None) -> None:
        """Send diagnoses; without any given, all that are still to come."""
        given = self._labels if labels is None else labels
        if given:
            self._log.append_outcomes(given)
        if labels is None:
            self._labels = []

    def _write_hour(self, at: datetime, sample: Sample) -> None:
        diagnoses, confidence = self._champion.read(sample.rows)
        told = self._random.random(len(sample.rows)) < LABELLED
        rows = []
        for number, values in enumerate(sample.rows.tolist()):
            request = f"{at:%Y%m%d-%H}-{number:03d}"
            rows.append(
                PredictionRow(
                    time=at + timedelta(minutes=1),
                    tenant=TENANT,
                    model=MODEL,
                    request_id=request,
                    row=0,
                    key=request,
                    key_kind="request",
                    user_id=None,
                    arm="champion",
                    version=self._version,
                    reason="default",
                    prediction=str(diagnoses[number]),
                    confidence=float(confidence[number]),
                    latency_ms=1.0,
                    inputs=dict(zip(COLUMNS, values, strict=True)),
                )
            )
            if told[number]:
                label = str(sample.labels[number])
                self._labels.append(OutcomeRow(MODEL, TENANT, request, 0, label, at + LABEL_DELAY))
        self._log.append_many(rows)
