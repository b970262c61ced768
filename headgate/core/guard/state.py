"""What the sequential tests of one rollout remember, and what a sweep adds to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import CONFIDENCE_BINS, LATENCY_BINS, Counts, Floats

Vectors = NDArray[np.float32]


def _nothing(*shape: int) -> Counts:
    return np.zeros(shape, dtype=np.int64)


@dataclass(slots=True)
class ArmBlocks:
    """One arm's sums in B consecutive closed buckets.

    Attributes:
        sums: name in `SCALARS` or `errors.<category>` -> shape (B,); an absent name is all zeros.
        latency_hist: shape (B, LATENCY_BINS). confidence_hist: shape (B, CONFIDENCE_BINS).
    """

    sums: Mapping[str, Floats] = field(default_factory=dict)
    latency_hist: Counts = field(default_factory=lambda: _nothing(0, LATENCY_BINS))
    confidence_hist: Counts = field(default_factory=lambda: _nothing(0, CONFIDENCE_BINS))


@dataclass(slots=True)
class LabelBlocks:
    """Labels that arrived since the last look, L rows by stratum of prediction time.

    Labels of both arms in one row were predicted in the same stratum and arrived between the same two looks, so both
    arms have the same label maturity in it.

    Attributes:
        outcomes, correct: shape (L, 2), challenger and champion.
        delay_s: shape (L,), mean delay of the row's labels, in seconds.
    """

    outcomes: Counts = field(default_factory=lambda: _nothing(0, 2))
    correct: Counts = field(default_factory=lambda: _nothing(0, 2))
    delay_s: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(slots=True)
class NewEvidence:
    """What one rollout's state has not counted yet.

    Attributes:
        now: the moment of the look.
        until: end of the newest closed bucket that is in here (`counted_until` afterwards).
        starts: shape (B,), POSIX seconds of each bucket, oldest first. bucket_s: its length.
        challenger, champion: the two arms in these buckets.
        labels: labels that arrived. label_seq: the newest one's number (`label_seq` afterwards).
        pairs: labelled shadow answers beside the champion's: challenger alone right, champion alone right, same. A
            labelled answer is in `labels` or in `pairs`, never in both: the two are multiplied.
        weights_since: since when the weights have been what they are; None = not known. Samples from before and after
            are never put in one block.
        mirrored: True while shadowing: no user meets the challenger's answers, so they cost nobody anything.
    """

    now: datetime
    until: datetime
    starts: Floats = field(default_factory=lambda: np.zeros(0))
    bucket_s: float = 10.0
    challenger: ArmBlocks = field(default_factory=ArmBlocks)
    champion: ArmBlocks = field(default_factory=ArmBlocks)
    labels: LabelBlocks = field(default_factory=LabelBlocks)
    label_seq: int = 0
    pairs: tuple[int, int, int] = (0, 0, 0)
    weights_since: datetime | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Clusters:
    """How one step's traffic hangs together by user; read now and then, not every sweep.

    Attributes:
        keys: (challenger, champion): distinct routing keys that were seen. both: keys seen on both arms,
            fallbacks aside.
        weight_percent: the challenger's share that was asked for over the whole time counted here.
        deff: metric (`errors`, `wrong`) -> design effect, >= 1; absent where it can't be estimated.
        estimate: accuracy of all answers as far as their confidences tell, 0-1: challenger, champion, standard error of
            the difference; None while there are too few labels to learn from.
    """

    keys: tuple[int, int]
    both: int
    weight_percent: float
    deff: Mapping[str, float] = field(default_factory=dict)
    estimate: tuple[float, float, float] | None = None


@dataclass(slots=True)
class GuardState:
    """Everything the sequential tests of one rollout, or of one slice of it, remember. It only ever adds.

    Attributes:
        gates: names of the G vectors, e.g. `error_rate`, `error_rate.timeout`, `latency.p95`, `accuracy`.
        ll: shape (G, GRID), log-likelihood ratio on the grid of log odds ratios against odds ratio 1; sums of blocks.
        restart: shape (G, GRID), log of the restarted mixture per grid point.
        counts: shape (G, 4), bad and all samples of challenger and champion: x_t, n_t, x_c, n_c.
        excess: shape (G,), sum over blocks of the challenger's bad samples less what is expected of it,
            x_t - (x_t + x_c) n_t / n; over `compared`, shape (G,), the sum of n_t n_c / n, it is the difference of the
            rates, adjusted for blocks (Mantel & Haenszel 1959).
        served: shape (G,), samples of the challenger that users met.
        open: shape (G, 4), counts of the block that is still too small to be counted. open_requests: of both arms in it.
        weights_since: since when the weights were what they were at the last look.
        pairs: challenger alone right, champion alone right, same; of labelled shadow answers.
        shadowed: the pairs were there before the first label of the two arms.
        counted_until: buckets before it are in. label_seq: labels up to this number are in.
        started: when the first bucket was counted. looks: how often something was added.
        spent: part of the restart schedule that is spent, 0-1.
        alone: requests of the challenger since the champion last had one.
        pace: the challenger's requests and labels per second, lately.
        latency_cuts: bins of the latency histogram that are the thresholds; () = the champion has no history yet.
        confidence_cuts: bins of the confidence histogram, likewise.
        latency_seen, confidence_seen: the champion's histograms so far, kept only while there are no cuts.
        deff: metric -> design effect.
        delay_hist: shape (64,), labels by log-spaced delay.
        clusters: the newest reading of the step; `clusters_since`: the step's beginning that it belongs to;
            `clusters_at`: when it was read.
    """

    gates: tuple[str, ...] = ()
    ll: Vectors = field(default_factory=lambda: np.zeros((0, 161), dtype=np.float32))
    restart: Vectors = field(default_factory=lambda: np.zeros((0, 161), dtype=np.float32))
    counts: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    excess: Floats = field(default_factory=lambda: np.zeros(0))
    compared: Floats = field(default_factory=lambda: np.zeros(0))
    served: Floats = field(default_factory=lambda: np.zeros(0))
    open: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    open_requests: tuple[float, float] = (0.0, 0.0)
    weights_since: datetime | None = None
    pairs: tuple[int, int, int] = (0, 0, 0)
    shadowed: bool = False
    counted_until: datetime | None = None
    label_seq: int = 0
    started: datetime | None = None
    looks: int = 0
    spent: float = 0.0
    alone: float = 0.0
    pace: tuple[float, float] = (0.0, 0.0)
    latency_cuts: tuple[int, ...] = ()
    confidence_cuts: tuple[int, ...] = ()
    latency_seen: Counts | None = None
    confidence_seen: Counts | None = None
    deff: Mapping[str, float] = field(default_factory=dict)
    delay_hist: Counts = field(default_factory=lambda: _nothing(64))
    clusters: Clusters | None = None
    clusters_since: datetime | None = None
    clusters_at: datetime | None = None
