"""What others do, written from their definitions: fixed rules, canary judges, repeated tests.

Each sees four quantities of the same simulated looks: failed requests, wrong answers, cache misses, and answers slower than
the champion's usual P95. It rolls back when any of them says so. Returned is the look (0-based) of the first rollback of
each run, -1 = never.

Sources: S0 of the brief (the documents' rules); docs.flagger.app, "how it works" (interval, threshold) and
pkg/controller/scheduler.go (failedChecks is never reset in a run); argo-rollouts docs, "analysis" (failureLimit: the run
fails once more measurements failed than that); Kayenta's NetflixACAJudge (Mann-Whitney, confidence .98, tolerance .25 of
the Hodges-Lehmann shift); Johari, Koomen, Pekelis & Walsh 2022, Operations Research 70 (3) (mSPRT, equation 5).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.guarded import slow_places
from benchmarks.worlds import Draws, World
from headgate.core.evidence import Floats

Looks = NDArray[np.int64]
LIMITS = {"errors": 0.02, "wrong": 0.15, "misses": 0.02, "slow": 0.10}
"""The bad rates themselves: a rule that is to catch a change to them can have no higher limits."""
EFFECTS = {"errors": 0.01, "wrong": 0.05, "misses": 0.012, "slow": 0.05}
"""The changes that the mixtures are tuned to."""


@dataclass(frozen=True)
class Seen:
    """Cumulative counts with a zero in front: name -> [challenger, champion] -> shape (R, T + 1); and all requests."""

    bad: Mapping[str, tuple[Looks, Looks]]
    n: tuple[Looks, Looks]

    @property
    def looks(self) -> int:
        """T."""
        return len(self.n[0]) - 1

    def window(self, name: str, which: int, looks: int, every: int = 1) -> Floats:
        """Rates over the last `looks` looks, at every so manieth look: shape (R, number)."""
        ends = np.arange(looks, self.looks + 1, every)
        bad = self.bad[name][which]
        return (bad[:, ends] - bad[:, ends - looks]) / (self.n[which][ends] - self.n[which][ends - looks])


def see(world: World, draws: Draws) -> Seen:
    """What the peers look at."""
    p95, half_slower = slow_places()
    bad = {}
    for name in ("errors", "wrong", "misses"):
        bad[name] = tuple(_summed(draws.counts[which][name]) for which in (0, 1))
    for name, edge in (("slow", p95), ("half slower", half_slower)):
        bad[name] = tuple(_summed(draws.beyond(which, edge)) for which in (0, 1))
    n = tuple(np.concatenate(([0], np.cumsum(world.requests(which)))) for which in (0, 1))
    return Seen(bad, n)  # type: ignore[arg-type]


def _summed(counts: NDArray[np.integer]) -> Looks:
    out = np.zeros((counts.shape[0], counts.shape[1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=1, out=out[:, 1:])
    return out


def _first(fired: NDArray[np.bool_], looks: Looks) -> Looks:
    """The look of the first True of each row."""
    return np.where(fired.any(axis=1), looks[fired.argmax(axis=1)], -1)


def _earliest(*firsts: Looks) -> Looks:
    stacked = np.stack([np.where(first < 0, np.iinfo(np.int64).max, first) for first in firsts])
    best = stacked.min(axis=0)
    return np.where(best == np.iinfo(np.int64).max, -1, best)


def _counted(seen: Seen, looks: int, failures: int) -> Looks:
    """The challenger's rate over its limit in so many windows, counted over the whole run."""
    ends = np.arange(looks, seen.looks + 1, looks) - 1
    over = np.stack([seen.window(name, 0, looks, looks) > limit for name, limit in LIMITS.items()]).any(
        axis=0
    )
    return _first(np.cumsum(over, axis=1) >= failures, ends)


def flagger(seen: Seen) -> Looks:
    """A check each minute of the last minute; the fifth failed check rolls back."""
    return _counted(seen, 2, 5)


def argo(seen: Seen) -> Looks:
    """A measurement each 5 minutes of the last 5; more than three failed ones abort (failureLimit 3)."""
    return _counted(seen, 10, 4)


def documents_trip(seen: Seen) -> Looks:
    """The first breach of one of the documents' rules (a check fails), vectorised.

    Errors above 5 % over 5 minutes for 2 minutes. Accuracy over 15 minutes below .85, or below .95 or .85 times the
    champion's. Cache hits below 98 % over 5 minutes. P95 more than 1.5 times the champion's, over the step so far.
    """
    errors = seen.window("errors", 0, 10) > 0.05
    lasting = np.lib.stride_tricks.sliding_window_view(errors, 5, axis=1).all(axis=2)
    own, base = 1 - seen.window("wrong", 0, 30), 1 - seen.window("wrong", 1, 30)
    wrong = (own < 0.85) | (own < 0.95 * base) | (own < 0.85 * base)
    misses = seen.window("misses", 0, 10) > 0.02
    share = seen.bad["half slower"][0][:, 1:] / seen.n[0][1:]
    slow = (share > 0.05) & (seen.n[0][1:] >= 1000)
    last = seen.looks
    return _earliest(
        _first(lasting, np.arange(13, last)),
        _first(wrong, np.arange(29, last)),
        _first(misses, np.arange(9, last)),
        _first(slow, np.arange(last)),
    )


def documents_engine(seen: Seen) -> Looks:
    """The documents' decision engine on those checks: critical, or score >= .8, or >= .6 for 5 minutes.

    The four checks weigh .15, .25, .10 and .20, together .70, and severity is 1 only at the critical point; so only the
    critical path can fire: accuracy below .9 times .85, errors at three times their limit.
    """
    wrong = 1 - seen.window("wrong", 0, 30) < 0.9 * 0.85
    errors = seen.window("errors", 0, 10) >= 0.15
    return _earliest(_first(wrong, np.arange(29, seen.looks)), _first(errors, np.arange(9, seen.looks)))


def repeated_z(seen: Seen, alpha: float) -> Looks:
    """A one-sided two-proportion z-test of all counts so far at every look, alpha shared by the four."""
    limit = -ndtri(alpha / len(LIMITS))
    return _earliest(*(_first(_z(seen, name) > limit, np.arange(seen.looks)) for name in LIMITS))


def _z(seen: Seen, name: str) -> Floats:
    (x_t, x_c), (n_t, n_c) = (tuple(part[..., 1:] for part in pair) for pair in (seen.bad[name], seen.n))
    pooled = (x_t + x_c) / (n_t + n_c)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (x_t / n_t - x_c / n_c) / np.sqrt(pooled * (1 - pooled) * (1 / n_t + 1 / n_c))
    # The normal approximation is nobody's fault before ten bad samples.
    return np.where(x_t + x_c >= 10, np.nan_to_num(z), 0.0)


def msprt(seen: Seen, alpha: float) -> Looks:
    """The mixture SPRT on the difference of all counts so far, plug-in variance, alpha shared by the four."""
    level = -np.log(alpha / len(LIMITS))
    firsts = []
    for name, effect in EFFECTS.items():
        (x_t, x_c), (n_t, n_c) = (tuple(part[..., 1:] for part in pair) for pair in (seen.bad[name], seen.n))
        p_t, p_c = x_t / n_t, x_c / n_c
        pooled = (x_t + x_c) / (n_t + n_c)
        v, tau = pooled * (1 - pooled) * (1 / n_t + 1 / n_c), effect**2
        with np.errstate(invalid="ignore", divide="ignore"):
            log_e = 0.5 * np.log(v / (v + tau)) + tau * (p_t - p_c) ** 2 / (2 * v * (v + tau))
        fired = (np.nan_to_num(log_e) >= level) & (p_t > p_c) & (x_t + x_c >= 10)
        firsts.append(_first(fired, np.arange(seen.looks)))
    return _earliest(*firsts)


def is_high(
    own: Floats, base: Floats, *, confidence: float = 0.98, tolerance: float = 0.25
) -> NDArray[np.bool_]:
    """Kayenta's classification of rows (R, m) against (R, n): the Mann-Whitney interval of the shift lies above the tolerance."""
    m, n = own.shape[1], base.shape[1]
    reach = -ndtri((1 - confidence) / 2) * np.sqrt(m * n * (m + n + 1) / 12)
    low, middle = max(0, round(m * n / 2 - reach)), m * n // 2
    shifts = (own[:, :, None] - base[:, None, :]).reshape(len(own), -1)
    ordered = np.partition(shifts, (low, middle), axis=1)
    estimate = ordered[:, middle]
    return (ordered[:, low] > tolerance * np.abs(estimate)) & (estimate > 0)


def kayenta(seen: Seen) -> Looks:
    """Every 30 minutes the last 60, minute by minute; any metric that is high fails the canary."""
    minutes, step = 60, 60
    starts = range(0, seen.looks - 2 * minutes + 1, step)
    ends = np.asarray(starts) + 2 * minutes - 1
    firsts = []
    for name in LIMITS:
        own, base = (seen.window(name, which, 2, 2) for which in (0, 1))
        windows = [slice(start // 2, start // 2 + minutes) for start in starts]
        fired = np.stack([is_high(own[:, window], base[:, window]) for window in windows], axis=1)
        firsts.append(_first(fired, ends))
    return _earliest(*firsts)


PEERS: Mapping[str, Callable[[Seen, float], Looks]] = {
    "documents: a check fails": lambda seen, _: documents_trip(seen),
    "documents: their engine": lambda seen, _: documents_engine(seen),
    "Flagger 1 min x5": lambda seen, _: flagger(seen),
    "Argo 5 min, limit 3": lambda seen, _: argo(seen),
    "Kayenta's judge": lambda seen, _: kayenta(seen),
    "repeated z": repeated_z,
    "mSPRT, plug-in": msprt,
}
