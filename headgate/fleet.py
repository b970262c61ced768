"""All live rollouts at once: read, judge, decide. One rollout that breaks never stops the others.

The classes here are plain on purpose: Prefect walks through dataclasses, lists and dicts that a task is given, which
would cost more than the judging itself.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from headgate.core import engine
from headgate.core.checks.agreement import judge_agreement
from headgate.core.checks.table import CHECKS
from headgate.core.evidence import Evidence
from headgate.core.guard.modes import beside
from headgate.core.policies import Policies
from headgate.core.rollout import (
    EffectKind,
    Facts,
    Phase,
    RecoveryFacts,
    RegistryView,
    Rollout,
    StepResult,
    Trip,
)
from headgate.core.verdict import Check, Outcome, Standing, Verdict
from headgate.effects import expecting, shown_by
from headgate.errors import HeadgateError, StoreUnavailableError
from headgate.story import artifact_key, title
from headgate.watch import log_enhanced
from headgate.weighing import Weighed, weigh

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
FEW_MODELS = 4
AGREEMENT = "agreement"
T = TypeVar("T")


class Fleet:
    """What one sweep has read.

    Attributes:
        now: the moment of the sweep, aware UTC.
        rollouts: those judged in this sweep.
        evidence, counts, recovery, policies: by rollout id; absent where it could not be read.
        views: what the registry shows, by model; None where it could not be read.
        pending: ids with writes to the registry that have not been carried out.
        trips: what gateways' event gates reported, by rollout id.
        weighed: where the sequential evidence stands.
        broken: rollout id -> why its evidence could not be read.
    """

    __slots__ = (
        "broken",
        "counts",
        "evidence",
        "now",
        "pending",
        "policies",
        "recovery",
        "rollouts",
        "trips",
        "views",
        "weighed",
    )

    def __init__(self, now: datetime, rollouts: Sequence[Rollout]) -> None:
        self.now = now
        self.rollouts = rollouts
        self.evidence: dict[str, Evidence] = {}
        self.counts: dict[str, tuple[int, int]] = {}
        self.recovery: dict[str, RecoveryFacts] = {}
        self.policies: dict[str, Policies] = {}
        self.views: dict[str, RegistryView | None] = {}
        self.pending: set[str] = set()
        self.trips: dict[str, Trip] = {}
        self.weighed = Weighed()
        self.broken: dict[str, str] = {}


class Judgement:
    """One check's verdicts on the whole fleet, by rollout id; a disabled check has none."""

    __slots__ = ("check", "verdicts")

    def __init__(self, check: str, verdicts: dict[str, Verdict]) -> None:
        self.check = check
        self.verdicts = verdicts


class Move:
    """What was decided for one rollout: the state before, the result, the verdicts it rests on.

    Attributes:
        written: True once the move is committed.
    """

    __slots__ = ("before", "result", "verdicts", "written")

    def __init__(self, before: Rollout, result: StepResult, verdicts: dict[str, Verdict]) -> None:
        self.before = before
        self.result = result
        self.verdicts = verdicts
        self.written = False

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        """A few words for lists."""
        return title(self.before, self.result)

    @property
    def artifact_key(self) -> str:
        """Name of the rollout's story in Prefect; letters, digits and dashes."""
        return artifact_key(self.before.id)

    @property
    def moves(self) -> bool:
        """True when a transition must be written; False for a quiet result."""
        before, after = self.before, self.result.rollout
        same = (before.phase, before.weight_percent, before.step) == (
            after.phase,
            after.weight_percent,
            after.step,
        )
        return self.result.changed or not same

    @property
    def cuts_off(self) -> bool:
        """True when the move takes the challenger's traffic away."""
        return any(effect.kind is EffectKind.CUT_OFF for effect in self.result.effects)


class Plan:
    """One sweep's decisions: `moves` change something (cut-offs first), `quiet` ones do not."""

    __slots__ = ("moves", "quiet")

    def __init__(self, moves: Iterable[Move]) -> None:
        decided = list(moves)
        self.quiet = [move for move in decided if not move.moves]
        self.moves = sorted((move for move in decided if move.moves), key=lambda move: not move.cuts_off)

    @property
    def cut_offs(self) -> list[Move]:
        """The moves that must happen before anything else."""
        return [move for move in self.moves if move.cuts_off]


def read_fleet(services: "Services", rollouts: Sequence[Rollout], now: datetime) -> Fleet:
    """Read everything that one sweep judges.

    Raises:
        StoreUnavailableError: nothing can be judged; the sweep holds.
    """
    fleet = Fleet(now, rollouts)
    store = services.store
    measured = [one for one in rollouts if one.phase not in (Phase.ROLLING_BACK, Phase.PENDING)]
    fleet.evidence = _isolated(lambda part: store.read_evidence(part, now), measured, fleet.broken)
    fleet.counts = _isolated(lambda part: store.read_counts(part, now), measured, fleet.broken)
    leaving = [one for one in rollouts if one.phase is Phase.ROLLING_BACK]
    fleet.recovery = _isolated(
        lambda part: {one.id: store.read_recovery(one, now) for one in part}, leaving, fleet.broken
    )
    fleet.pending = store.has_pending([one.id for one in rollouts], EffectKind.SYNC_REGISTRY)
    fleet.trips = store.read_trips(rollouts)
    fleet.views = read_views(services, {one.model for one in rollouts})
    for one in measured:
        try:
            fleet.policies[one.id] = one.spec.policies
        except (HeadgateError, ValueError) as err:
            fleet.broken[one.id] = f"its thresholds can't be resolved: {err}"
    return fleet


def weigh_fleet(services: "Services", fleet: Fleet) -> None:
    """Advance the sequential tests of every rollout that can be judged; one that breaks never stops the others.

    Without its standing a guarded check has no verdict, so its rollout holds.

    Raises:
        StoreUnavailableError: nothing was counted; the sweep holds.
    """
    judged = [one for one in fleet.rollouts if one.id in fleet.evidence and one.id not in fleet.broken]

    def weighed(part: Sequence[Rollout]) -> dict[str, tuple[dict[str, Standing], dict[str, Verdict]]]:
        found = weigh(services, part, fleet.now)
        return {name: (found.standings[name], found.audits[name]) for name in found.standings}

    for name, (standings, audits) in _isolated(weighed, judged, fleet.broken).items():
        fleet.weighed.standings[name], fleet.weighed.audits[name] = standings, audits
    for one in judged:
        # Once, another sweep was quicker; for ever, harm would never be confirmed and nobody would know.
        if one.spec.decision == "guarded" and one.id not in fleet.weighed.standings:
            fleet.broken.setdefault(
                one.id,
                "what its tests remember was advanced by somebody else, or can't be read (see the log)",
            )


def read_views(services: "Services", models: set[str]) -> dict[str, RegistryView | None]:
    """What the registry shows for each model; None for a model that can't be read."""
    views: dict[str, RegistryView | None] = {}
    if len(models) > FEW_MODELS:
        try:
            views.update(services.registry.views())
        except HeadgateError as err:
            logger.warning("the registry can't be read, every rollout holds: %s", err)
            return dict.fromkeys(models)
    for model in models - views.keys():
        try:
            views[model] = services.registry.view(model)
        except HeadgateError as err:
            logger.warning("the registry can't be read for %s, its rollout holds: %s", model, err)
            views[model] = None
    return views


def judge_fleet(fleet: Fleet, check: Check) -> Judgement:
    """Let one check judge every rollout for which it is enabled, by both decision modes."""
    verdicts = {}
    for one in fleet.rollouts:
        if one.id in fleet.broken:
            verdicts[one.id] = _error(check.value, fleet.broken[one.id])
        elif one.id in fleet.evidence and getattr(fleet.policies[one.id], check.value).enabled:
            verdicts[one.id] = _sheltered(check.value, one.id, lambda one=one: _judge(fleet, one, check))  # type: ignore[misc]
    return Judgement(check.value, verdicts)


def judge_shadows(fleet: Fleet) -> Judgement:
    """Compare answers of every challenger in shadow with its champion's."""
    verdicts = {}
    for one in fleet.rollouts:
        shadow = one.spec.shadow
        if shadow is None or Phase.SHADOWING not in (one.phase, one.held):
            continue
        if one.id in fleet.broken:
            verdicts[one.id] = _error(AGREEMENT, fleet.broken[one.id])
        elif one.id in fleet.evidence:
            evidence = fleet.evidence[one.id]
            verdicts[one.id] = _sheltered(
                AGREEMENT,
                one.id,
                lambda e=evidence, s=shadow: judge_agreement(e, s),  # type: ignore[misc]
            )
    return Judgement(AGREEMENT, verdicts)


def decide_fleet(fleet: Fleet, judgements: Sequence[Judgement]) -> Plan:
    """Let the engine decide for every rollout; one that can't be decided stays as it is."""
    moves = []
    for one in fleet.rollouts:
        verdicts = {each.check: each.verdicts[one.id] for each in judgements if one.id in each.verdicts}
        log_enhanced(one, verdicts, fleet.now)
        requests, outcomes = fleet.counts.get(one.id, (0, 0))
        facts = Facts(
            verdicts=verdicts,
            requests=requests,
            outcomes=outcomes,
            registry=fleet.views.get(one.model),
            effects_pending=one.id in fleet.pending,
            recovery=fleet.recovery.get(one.id),
            trip=fleet.trips.get(one.id),
            audits=fleet.weighed.audits.get(one.id, {}),
        )
        try:
            result = engine.step(one, facts, fleet.now)
        except Exception:  # One broken rollout must not stop the others (MN-02).
            logger.exception("%s could not be decided and stays as it is", one.id)
            continue
        moves.append(Move(one, expecting(result, shown_by(one.target)), verdicts))
    return Plan(moves)


def _judge(fleet: Fleet, rollout: Rollout, check: Check) -> Verdict:
    """The verdict of the spec's decision mode, with the other mode's beside it."""
    policies = fleet.policies[rollout.id]
    literal = CHECKS[check](fleet.evidence[rollout.id], policies)
    return beside(
        rollout.spec.decision,
        check.value,
        literal,
        fleet.weighed.standings.get(rollout.id, {}).get(check.value),
        policies,
    )


def _sheltered(check: str, rollout_id: str, judge: Callable[[], Verdict]) -> Verdict:
    try:
        return judge()
    except (
        Exception
    ) as err:  # One rollout's broken judgement is its own `error` verdict, nobody else's (MN-02).
        logger.exception("check %s broke on %s", check, rollout_id)
        return _error(check, f"the check itself broke: {err!r:.200}")


def _error(check: str, reason: str) -> Verdict:
    return Verdict(check, Outcome.ERROR, 0.0, reason)


def _isolated(
    read: Callable[[Sequence[Rollout]], dict[str, T]], rollouts: Sequence[Rollout], broken: dict[str, str]
) -> dict[str, T]:
    """Read for all at once; when that breaks, one by one, so that only the broken ones are missing."""
    if not rollouts:
        return {}
    try:
        return read(rollouts)
    except StoreUnavailableError:
        raise
    except Exception:
        logger.exception("reading %d rollouts at once broke, reading them one by one", len(rollouts))
    found: dict[str, T] = {}
    for one in rollouts:
        try:
            found |= read([one])
        except StoreUnavailableError:
            raise
        except Exception as err:  # The others are read all the same (MN-02).
            logger.exception("%s can't be read", one.id)
            broken[one.id] = f"its evidence can't be read: {err!r:.200}"
    return found
