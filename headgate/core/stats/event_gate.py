"""Cuts off a challenger that fails where the champion does not, request by request, after a handful of failures."""

import math

import numpy as np

from headgate.core.evidence import Floats
from headgate.core.stats.odds import GRID, increments

_PLACES = np.arange(90, 161, 5)
"""Log odds ratios 0.5, 0.75 .. 4 of the grid: smaller harm is for the sweep."""
_THETA: Floats = GRID[_PLACES]
_W: Floats = np.exp(_THETA)
_AT_ONCE = 0.9
_SCALE = 1000.0
_SHAPE = 2.0
_FILL = 0.5
_FULL = 9
_ENUMERATED = 100


def _prior() -> Floats:
    """90 % normal around odds ratio 13 (1 % -> 12 %), 10 % flat."""
    bell = np.exp(-0.5 * ((_THETA - 2.6) / 0.8) ** 2)
    logs: Floats = np.log(0.9 * bell / bell.sum() + 0.1 / len(bell))
    return logs


_LOG_PRIOR = _prior()


class EventGate:
    """E-process of "the challenger fails more often than the champion", in blocks of neighbouring requests.

    A block closes as soon as it holds a request of each arm and half a share (at most 9) of the arm with more traffic, so
    what happens to both (an outage, a rising rate, another weight) cancels out, and outcomes never decide where it ends. Under H0 (odds ratio <= 1 in every block)
    the chance of ever tripping is at most alpha. Part of the bet starts anew later on, so a late crash is seen too.
    Memory does not grow. Not thread-safe: the caller locks.

    Attributes:
        alpha: chance of a false trip over the whole life of the gate, in (0, 1).
        requests, failures: of the challenger, so far. champion_requests, champion_failures: of the champion.
        log_e: log evidence, natural log.
        tripped: True from the moment on at which log_e reached log(1 / alpha).

    >>> gate = EventGate(0.01)
    >>> for _ in range(3):
    ...     gate.champion(19, 0), gate.challenger(failed=True)
    (False, False)
    (False, False)
    (False, True)
    """

    def __init__(self, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha == {alpha}, must be in (0, 1)")
        self.alpha = alpha
        self.requests = self.failures = 0
        self.champion_requests = self.champion_failures = 0
        self.log_e = 0.0
        self.tripped = False
        self._needed = -math.log(alpha)
        self._block = (0, 0, 0, 0)
        self._log_m: Floats = np.full(len(_THETA), -np.inf)
        self._spent = 0.0

    def champion(self, requests: int, failures: int) -> bool:
        """Counts answers of the champion; True when the gate has tripped.

        Args:
            requests: answers since the last call, >= 0. failures: how many of them failed.
        """
        if not 0 <= failures <= requests:
            raise ValueError(f"failures == {failures}, must be in [0, {requests}]")
        self.champion_requests += requests
        self.champion_failures += failures
        x_t, n_t, x_c, n_c = self._block
        self._block = (x_t, n_t, x_c + failures, n_c + requests)
        return self._count()

    def challenger(self, failed: bool) -> bool:
        """Counts one answer of the challenger; True when the gate has tripped."""
        self.requests += 1
        self.failures += failed
        x_t, n_t, x_c, n_c = self._block
        self._block = (x_t + failed, n_t + 1, x_c, n_c)
        return self._count()

    def _count(self) -> bool:
        x_t, n_t, x_c, n_c = self._block
        if n_t and n_c:
            ratio = self.champion_requests / self.requests
            if n_c >= min(_FULL, _FILL * ratio) and n_t >= min(_FULL, _FILL / ratio):
                self._block = (0, 0, 0, 0)
                if 0 < x_t + x_c < n_t + n_c:
                    self._bet(x_t, n_t, x_c, n_c)
        return self.tripped

    def _bet(self, x_t: int, n_t: int, x_c: int, n_c: int) -> None:
        # What was spent while blocks said nothing moved from cash to bets without changing the wealth.
        age = math.log1p((self.requests - n_t) / _SCALE)
        spent = _AT_ONCE + (1 - _AT_ONCE) * age / (age + _SHAPE)
        fresh = math.log(spent - self._spent) if spent > self._spent else -math.inf
        self._log_m = np.logaddexp(self._log_m, fresh) + _evidence(x_t, n_t, x_c, n_c)
        self._spent = spent
        logs = self._log_m + _LOG_PRIOR
        top = max(float(logs.max()), 0.0)
        self.log_e = top + math.log(float(np.exp(logs - top).sum()) + (1 - spent) * math.exp(-top))
        if self.log_e >= self._needed:
            self.tripped = True


def _evidence(x_t: int, n_t: int, x_c: int, n_c: int) -> Floats:
    """`odds.increments` at the gate's odds ratios, quicker for one small block."""
    bad, size = x_t + x_c, n_t + n_c
    if min(bad, n_t) > _ENUMERATED:
        return np.take(increments([x_t], [n_t], [x_c], [n_c])[0], _PLACES)
    lowest = max(0, bad - n_c)
    # With one challenger request: x_t log w - log(1 - bad / size + w bad / size).
    total = math.comb(size, bad)
    chances = [math.comb(n_t, k) * math.comb(n_c, bad - k) / total for k in range(lowest, min(bad, n_t) + 1)]
    moved: Floats = (x_t - lowest) * _THETA - np.log(np.polynomial.polynomial.polyval(_W, chances))
    return moved
