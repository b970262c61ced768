"""Champion and challenger of one history, cut into the buckets that a sweep reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headgate.backtest.columns import MISSING, Codes, Micros, Small
from headgate.backtest.history import NEVER, History
from headgate.core.evidence import Floats, confidence_bin, latency_bin
from headgate.errors import HistoryError

BUCKET_S = 10.0
"""As the store cuts time (`HEADGATE_BUCKET_S`)."""
MAX_BUCKETS = 400_000
Index = NDArray[np.int64]


@dataclass(slots=True)
class Rows:
    """One arm's predictions in order of time, n of them; see `History` for the columns.

    Attributes:
        bucket: index of the bucket each was made in. right: 1 right, 0 wrong, `MISSING` without a label or an answer.
    """

    bucket: Codes
    error: Small
    latency_ms: NDArray[np.float32]
    latency_bin: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    confidence_bin: NDArray[np.uint8]
    prediction: Codes
    right: Small
    cache: Small

    def __len__(self) -> int:
        return len(self.bucket)

    @classmethod
    def of(cls, history: History, index: Index, bucket: Codes) -> Self:
        """The rows of a history at `index`, in buckets that are given."""
        error, prediction = history.error[index], history.prediction[index]
        label = history.label[index]
        answered = (error == MISSING) & (prediction != MISSING)
        known = answered & (label != MISSING)
        latency, confidence = history.latency_ms[index], history.confidence[index]
        return cls(
            bucket=bucket,
            error=error,
            latency_ms=latency,
            latency_bin=latency_bins(latency),
            confidence=confidence,
            confidence_bin=confidence_bin(np.nan_to_num(confidence)).astype(np.uint8),
            prediction=np.where(answered, prediction, MISSING).astype(np.int32),
            right=np.where(known, prediction == label, MISSING).astype(np.int8),
            cache=history.cache[index],
        )


def latency_bins(latency_ms: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Histogram bins of latencies."""
    return latency_bin(latency_ms.astype(np.float64)).astype(np.uint16)


@dataclass(slots=True)
class Labels:
    """Labels of one arm's rows in the order in which a sweep can see them.

    Attributes:
        row: shape (L,), the rows. visible_s: from when on, ascending. delay_s: label after prediction, in seconds.
    """

    row: Index
    visible_s: Floats
    delay_s: NDArray[np.float32]


@dataclass(slots=True)
class ArmLog:
    """One arm's rows, where each bucket's begin (shape (B + 1,)), their labels and users."""

    rows: Rows
    first: Index
    labels: Labels
    users: Codes


@dataclass(slots=True)
class Trial:
    """Two arms over the same time.

    Attributes:
        starts: shape (B,), POSIX seconds of the buckets that hold anything. bucket_s: their length.
        begin_s: when the rollout is started: at the challenger's first row. end_s: end of the last bucket.
        paired: row i of both arms answers the same request; else each arm has its own rows.
        keys: routing keys by code of `champion.users`, where paired.
        segments: column -> (codes by row of the champion, of the challenger, values).
    """

    champion_version: str
    challenger_version: str
    champion: ArmLog
    challenger: ArmLog
    starts: Floats
    bucket_s: float
    begin_s: float
    end_s: float
    paired: bool
    keys: pa.Array
    segments: Mapping[str, tuple[Codes, Codes, list[str]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_challenger(self, rows: Rows) -> "Trial":
        """The same trial with other answers of the challenger."""
        return replace(self, challenger=replace(self.challenger, rows=rows))


def prepare(
    history: History, champion: str | None, challenger: str | None, *, against_itself: bool = False
) -> Trial:
    """Cut the two arms out of a history.

    Args:
        history: what was logged.
        champion, challenger: versions; None = the other one of two, the older one is the champion.
        against_itself: the champion's rows are both arms (A/A).

    Raises:
        HistoryError: a version is not there, or which is meant can't be told.
    """
    notes = list(history.notes)
    one, other = _versions(history, champion, challenger, against_itself, notes)
    first = _by_time(history, np.flatnonzero(history.version == one))
    second = first if against_itself else _by_time(history, np.flatnonzero(history.version == other))
    begin_us = int(history.time_us[second[0]])
    paired = _pair(history, first, second, begin_us, notes)
    if paired is not None:
        first, second = paired
    starts, bucket_s = _buckets(history.time_us, first, None if paired else second, notes)
    arms = []
    for index in (first, second):
        when = history.time_us[first if paired else index]
        bucket = (np.searchsorted(starts, when / 1e6 + 1e-9, side="right") - 1).astype(np.int32)
        arms.append(_arm(history, index, bucket, starts, bucket_s))
    if paired:
        # One request has one label, whoever answered it.
        arms[1].labels, arms[1].users = arms[0].labels, arms[0].users
    versions = history.versions
    return Trial(
        champion_version=versions[one],
        challenger_version=f"{versions[one]}-again" if against_itself else versions[other],
        champion=arms[0],
        challenger=arms[1],
        starts=starts,
        bucket_s=bucket_s,
        begin_s=float(starts[np.searchsorted(starts, begin_us / 1e6, side="right") - 1]),
        end_s=float(starts[-1]) + bucket_s,
        paired=paired is not None,
        keys=history.keys,
        segments={
            name: (codes[first], codes[second], values) for name, (codes, values) in history.segments.items()
        },
        notes=tuple(notes),
    )


def _versions(
    history: History, champion: str | None, challenger: str | None, against_itself: bool, notes: list[str]
) -> tuple[int, int]:
    names = history.versions
    for given in (champion, challenger):
        if given is not None and given not in names:
            raise HistoryError(
                str(history.place), f"has no version {given}", f"name one of {', '.join(sorted(names))}"
            )
    if champion is not None and champion == challenger:
        raise HistoryError(
            str(history.place),
            f"champion and challenger are both {champion}",
            "use --aa to compare it with itself",
        )
    if against_itself:
        chosen = champion or (names[0] if len(names) == 1 else None)
        if chosen is None and len(names) == 2 and challenger is None:
            chosen = _older(history)
            notes.append(f"version {chosen} is taken as champion; --champion says otherwise")
        if chosen is None:
            raise _unclear(history, "--champion")
        return names.index(chosen), names.index(chosen)
    if champion is None and challenger is None and len(names) == 2:
        champion = _older(history)
        notes.append(f"version {champion} is taken as champion; --champion and --challenger say otherwise")
    rest = [name for name in names if name not in (champion, challenger)]
    if champion is None and len(rest) == 1 and challenger is not None:
        champion = rest[0]
    if challenger is None and len(rest) == 1 and champion is not None:
        challenger = rest[0]
    if champion is None or challenger is None:
        raise _unclear(history, "--champion and --challenger, or --aa")
    return names.index(champion), names.index(challenger)


def _unclear(history: History, options: str) -> HistoryError:
    names = ", ".join(sorted(history.versions))
    return HistoryError(
        str(history.place), f"holds the versions {names}", f"say which is meant with {options}"
    )


def _older(history: History) -> str:
    """Of two versions, the smaller number; without numbers, the one that was logged first."""
    names = history.versions
    if all(name.isdigit() for name in names):
        return min(names, key=int)
    first = [int(history.time_us[history.version == code].min()) for code in range(len(names))]
    return names[int(np.argmin(first))]


def _by_time(history: History, index: Index) -> Index:
    when = history.time_us[index]
    return index if bool((when[1:] >= when[:-1]).all()) else index[np.argsort(when, kind="stable")]


def _pair(
    history: History, first: Index, second: Index, begin_us: int, notes: list[str]
) -> tuple[Index, Index] | None:
    """Rows of both arms request by request; None when the log is split, each request one version."""
    place = np.full(int(history.request.max()) + 1, MISSING, dtype=np.int64)
    place[history.request[second]] = second
    partner = place[history.request[first]]
    before = history.time_us[first] < begin_us
    both = int((partner != MISSING).sum())
    # A request that fell back from the challenger to the champion has two rows in a split log as well.
    if both < len(second) / 2:
        shares = f"{len(second):,} of {len(first) + len(second):,} rows are the challenger's"
        notes.append(
            f"the log is split, each request has one version: {shares} whatever the weight, "
            "so the steps' weights and the exposure are in name only, and there is no shadow stage"
        )
        return None
    kept = (partner != MISSING) | before
    lost = (len(first) - int(kept.sum())) + (len(second) - both)
    if lost:
        notes.append(f"{lost:,} rows are left out: their request has an answer of one version only")
    # Before the rollout begins nobody reads the challenger's rows.
    return first[kept], np.where(partner[kept] == MISSING, second[0], partner[kept])


def _buckets(time_us: Micros, first: Index, second: Index | None, notes: list[str]) -> tuple[Floats, float]:
    """Starts of the buckets that hold anything, in seconds; wider ones when there would be too many."""
    width = int(BUCKET_S * 1e6)
    while True:
        found = np.unique(time_us[first] // width)
        if second is not None:
            found = np.union1d(found, np.unique(time_us[second] // width))
        if len(found) <= MAX_BUCKETS:
            break
        width *= 2
    if width > BUCKET_S * 1e6:
        notes.append(
            f"time is cut into buckets of {width / 1e6:g} s instead of {BUCKET_S:g} s: the history is long"
        )
    starts: Floats = found.astype(np.float64) * (width / 1e6)
    return starts, width / 1e6


def _arm(history: History, index: Index, bucket: Codes, starts: Floats, bucket_s: float) -> ArmLog:
    rows = Rows.of(history, index, bucket)
    arrived = history.label_us[index]
    labelled = np.flatnonzero((history.label[index] != MISSING) & (arrived != NEVER))
    visible = np.maximum(arrived[labelled] / 1e6, starts[bucket[labelled]] + bucket_s)
    order = np.argsort(visible, kind="stable")
    delay = np.maximum(0.0, (arrived[labelled] - history.time_us[index][labelled]) / 1e6).astype(np.float32)
    return ArmLog(
        rows=rows,
        first=np.searchsorted(bucket, np.arange(len(starts) + 1)),
        labels=Labels(labelled[order], visible[order], delay[order]),
        users=history.key[index],
    )
