"""What became of the version that a retraining registered: its rollout, told in the retraining's words."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from headgate.core.retraining.machine import move
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.rollout import Phase, Rollout

P = RetrainingPhase
PATIENCE = timedelta(hours=1)
"""After this a rollout that has not begun is wondered at."""


def follow(one: Retraining, rollouts: Sequence[Rollout], holder: str | None, now: datetime) -> Retraining:
    """The retraining as its rollout stands; unchanged where nothing has.

    Args:
        one: in `registered`, `rolling_out` or `watching`.
        rollouts: those of its version, the newest first. Read after the registry.
        holder: who has the alias `challenger`; its own version when that could not be read.
        now: the time.
    """
    if not rollouts:
        return _without_rollout(one, holder, now)
    rollout = rollouts[0]
    known = replace(one, rollout_id=rollout.id)
    match rollout.phase:
        case Phase.PROMOTED:
            said = f"version {one.version} is promoted: rollout {rollout.id} was watched for {rollout.spec.watch.duration}"
            return move(known, P.PROMOTED, now, said)
        case Phase.ROLLED_BACK | Phase.ABORTED | Phase.SUPERSEDED:
            return _ended(known, rollout, now)
        case Phase.WATCHING:
            return _on_the_way(
                known, P.WATCHING, f"version {one.version} is champion and watched, rollout {rollout.id}", now
            )
        case _ if rollout.base_phase is Phase.WATCHING:
            return _on_the_way(
                known,
                P.WATCHING,
                f"version {one.version} is champion, its watch stands still ({_pause(rollout)})",
                now,
            )
        case Phase.ROLLING_BACK:
            return replace(
                known, said=f"rollout {rollout.id} takes version {one.version} back: {_why(rollout)}"
            )
        case _:
            return _on_the_way(
                known, P.ROLLING_OUT, f"rollout {rollout.id}: {rollout.phase.value}{_pause(rollout)}", now
            )


def _without_rollout(one: Retraining, holder: str | None, now: datetime) -> Retraining:
    if one.phase is not P.REGISTERED:
        return one
    if holder == one.version:
        said = f"version {one.version} has the alias `challenger`; its rollout begins with the next sweep"
        if now - one.phase_since > PATIENCE:
            since = f"{one.phase_since:%Y-%m-%d %H:%M} UTC"
            said = f"version {one.version} has had the alias `challenger` since {since} and no rollout has begun: see that watch_rollouts runs, or take the alias away"
        return replace(one, said=said)
    has = f"version {holder} has it" if holder else "nobody has it"
    said = f"somebody took the alias `challenger` from version {one.version} before its rollout began ({has}); traffic did not change; give it back in MLflow to release it"
    return move(one, P.CANCELLED, now, said)


def _on_the_way(one: Retraining, phase: RetrainingPhase, said: str, now: datetime) -> Retraining:
    return replace(one, said=said) if one.phase is phase else move(one, phase, now, said)


def _ended(one: Retraining, rollout: Rollout, now: datetime) -> Retraining:
    if rollout.promoted_at is not None:
        said = f"version {one.version} was champion and was taken back to version {rollout.champion} by rollout {rollout.id}: {_why(rollout)}"
        return move(one, P.TAKEN_BACK, now, said)
    if rollout.phase is Phase.ROLLED_BACK:
        said = f"refused by the gates of rollout {rollout.id} at {_where(rollout)}: {_why(rollout)}; version {rollout.champion} serves; headgate history {rollout.id}"
        return move(one, P.REFUSED, now, said)
    said = f"rollout {rollout.id} ended as {rollout.phase.value}: {_why(rollout)}; version {rollout.champion} serves"
    return move(one, P.CANCELLED, now, said)


def _where(rollout: Rollout) -> str:
    if rollout.recovery is None:
        return "an early stage"
    weight = rollout.recovery.from_weight_percent
    return f"{weight:g} %" if weight > 0 else rollout.recovery.from_phase.value


def _why(rollout: Rollout) -> str:
    if rollout.recovery is not None:
        return f"{rollout.recovery.triggered_by}, {rollout.recovery.reason}"
    return rollout.last_ruling.reason if rollout.last_ruling is not None else "no reason is recorded"


def _pause(rollout: Rollout) -> str:
    return f" ({rollout.pause_reason.value})" if rollout.pause_reason is not None else ""
