"""What one sweep adds to the sequential tests: read what is new, count it once, write it back, say where each stands.

The state is written before anything is decided on it, and only if nobody else has advanced it meanwhile. A sweep that is
killed before the write counts nothing; the next one reads the same buckets again.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.core.evidence import Sums
from headgate.core.guard.advance import advance
from headgate.core.guard.audits import audits
from headgate.core.guard.segments import judge_segments, slice_policies
from headgate.core.guard.standing import standings
from headgate.core.guard.state import GuardState, NewEvidence
from headgate.core.rollout import Phase, Rollout
from headgate.core.verdict import Standing, Verdict

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
READ_EVERY = timedelta(minutes=1)
READ_PER_SWEEP = 5
"""Readings of whole prediction rows are dear: a few rollouts in each sweep, those that have waited longest first."""
SURE_KEYS = 1_000
_NEVER = datetime.min.replace(tzinfo=UTC)

Slices = Mapping[str, GuardState]
"""Segment (`column=value`; '' is the whole rollout) -> what its tests remember."""
_Written = dict[tuple[str, str], tuple[GuardState, GuardState]]


class Weighed:
    """Where the sequential evidence of a fleet stands after a sweep, by rollout id.

    A rollout whose state somebody else has advanced is in neither: it is judged in the next sweep.

    Attributes:
        standings: check -> standing. audits: what is wrong with the experiment or with a slice.
    """

    __slots__ = ("audits", "standings")

    def __init__(self) -> None:
        self.standings: dict[str, dict[str, Standing]] = {}
        self.audits: dict[str, dict[str, Verdict]] = {}


def weigh(services: "Services", rollouts: Sequence[Rollout], now: datetime) -> Weighed:
    """Advance every rollout's tests by what is new, once.

    Args:
        services: the connected parts.
        rollouts: those that are judged. now: the moment of the sweep, aware UTC.

    Raises:
        StoreUnavailableError: nothing was counted.
    """
    store = services.store
    kept: dict[str, dict[str, GuardState]] = store.read_states([one.id for one in rollouts])
    before = {one.id: kept.get(one.id, {}).get("", GuardState()) for one in rollouts}
    news = store.read_new(rollouts, before, now)
    young = [one for one in rollouts if not (before[one.id].latency_cuts and before[one.id].confidence_cuts)]
    history = store.read_history(young) if young else {}
    # Users first: one whose requests all fail must not count as many before that is known.
    seen = {
        one.id: _with_clusters(services, one, before[one.id], now)
        for one in _longest_waiting(rollouts, before, now)
    }
    after = _advanced(rollouts, before | seen, news, history)
    sliced = _longest_sliced(rollouts, kept, now)
    fresh = store.read_new_segments(sliced, kept, now) if sliced else {}
    slices = {one.id: _advanced_slices(one, kept.get(one.id, {}), fresh.get(one.id, {})) for one in rollouts}
    written: _Written = {(one.id, ""): (before[one.id], after[one.id]) for one in rollouts}
    for one in sliced:
        past = kept.get(one.id, {})
        written |= {
            (one.id, name): (past.get(name, GuardState()), slices[one.id][name])
            for name in fresh.get(one.id, {})
        }
    lost = store.write_states(written)
    if lost:
        logger.warning("%d state(s) were advanced by somebody else: %s", len(lost), sorted(lost)[:5])
    judged = [one for one in rollouts if (one.id, "") not in lost]
    return _told(judged, after, slices)


def _advanced(
    rollouts: Sequence[Rollout],
    before: Mapping[str, GuardState],
    news: Mapping[str, NewEvidence],
    history: Mapping[str, Sums],
) -> dict[str, GuardState]:
    states = advance(
        [before[one.id] for one in rollouts],
        [_marked(one, news[one.id]) for one in rollouts],
        [one.spec.policies for one in rollouts],
        [history.get(one.id, Sums()) for one in rollouts],
    )
    return {one.id: state for one, state in zip(rollouts, states, strict=True)}


def _marked(rollout: Rollout, new: NewEvidence) -> NewEvidence:
    return replace(new, mirrored=rollout.base_phase is Phase.SHADOWING)


def _advanced_slices(
    rollout: Rollout, before: Slices, news: Mapping[str, NewEvidence]
) -> dict[str, GuardState]:
    """Every slice of one rollout; thresholds on latency are those of the whole."""
    kept = {name: state for name, state in before.items() if name}
    if not news:
        return kept
    whole = before.get("", GuardState())
    names = list(news)
    states = advance(
        [
            replace(kept.get(name, GuardState()), latency_cuts=whole.latency_cuts, deff=whole.deff)
            for name in names
        ],
        [_marked(rollout, news[name]) for name in names],
        [slice_policies(rollout.spec.policies)] * len(names),
        [Sums()] * len(names),
    )
    return kept | dict(zip(names, states, strict=True))


def _longest_waiting(
    rollouts: Iterable[Rollout], states: Mapping[str, GuardState], now: datetime
) -> list[Rollout]:
    """The rollouts whose users are to be looked at now: those with a challenger, at a weight that is in force."""

    def read_at(one: Rollout) -> datetime:
        state = states[one.id]
        same_step = state.clusters_since == one.effective_since
        return (state.clusters_at if same_step else None) or _NEVER

    met = [
        one
        for one in rollouts
        if (one.exposed or one.base_phase is Phase.SHADOWING) and one.effective_since is not None
    ]
    due = [one for one in met if read_at(one) <= now - READ_EVERY]
    return sorted(due, key=read_at)[:READ_PER_SWEEP]


def _with_clusters(services: "Services", rollout: Rollout, state: GuardState, now: datetime) -> GuardState:
    found = services.store.read_clusters(rollout, now)
    # Few keys tell little: then the larger one of two readings is believed.
    sure = sum(found.keys) >= SURE_KEYS
    deff = {
        name: max(1.0, value, 1.0 if sure else state.deff.get(name, 1.0))
        for name, value in found.deff.items()
    }
    return replace(
        state,
        clusters=found,
        clusters_since=rollout.effective_since,
        clusters_at=now,
        deff={**state.deff, **deff},
    )


def _longest_sliced(rollouts: Iterable[Rollout], kept: Mapping[str, Slices], now: datetime) -> list[Rollout]:
    def counted(one: Rollout) -> datetime:
        slices = [state for name, state in kept.get(one.id, {}).items() if name]
        return min((state.counted_until or _NEVER for state in slices), default=_NEVER)

    due = [one for one in rollouts if one.spec.segments.columns and counted(one) <= now - READ_EVERY]
    return sorted(due, key=counted)[:READ_PER_SWEEP]


def _told(
    rollouts: Sequence[Rollout], states: Mapping[str, GuardState], slices: Mapping[str, Slices]
) -> Weighed:
    weighed = Weighed()
    found = standings(
        [states[one.id] for one in rollouts],
        [one.spec.policies for one in rollouts],
        [one.spec.evidence for one in rollouts],
    )
    for one, standing in zip(rollouts, found, strict=True):
        weighed.standings[one.id] = standing
        weighed.audits[one.id] = audits(states[one.id], one.spec)
        if slices[one.id]:
            weighed.audits[one.id] |= judge_segments(slices[one.id], one.spec.policies, one.spec.evidence)
    return weighed
