"""Writes decisions down and carries their effects out."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.effects import deliver
from headgate.errors import ConflictError, HeadgateError, StoreUnavailableError
from headgate.fleet import Move, Plan
from tasks.parts import parts

logger = logging.getLogger(__name__)
ACTOR = "headgate"


@task(cache_policy=NO_CACHE)
def deliver_effects(rollout_id: str | None = None) -> int:
    """Carry out what stands in the outbox: of one rollout, or all that a crash left behind."""
    return deliver(parts(), rollout_id)


@task(cache_policy=NO_CACHE)
def cut_off(move: Move) -> bool:
    """Take a challenger's traffic away, now: gateways by NOTIFY in the commit, then the registry."""
    written = write(move)
    deliver(parts(), move.before.id)
    return written


@task(cache_policy=NO_CACHE)
def commit_transition(move: Move) -> bool:
    """Write one rollout's transition; False when it was written before, or the rollout moved on meanwhile."""
    return write(move)


@task(cache_policy=NO_CACHE)
def confirm_cut_off(move: Move) -> str:
    """Read back from the registry that the challenger has no traffic; says what is shown."""
    try:
        view = parts().registry.view(move.before.model)
    except HeadgateError as err:
        return f"not confirmed yet: {err}"
    share = view.split.weights.get(move.before.challenger, 0.0) if view.split else 0.0
    return f"challenger {view.challenger or 'has no alias'}, {share:g} %"


@task(cache_policy=NO_CACHE)
def commit_quiet(plan: Plan) -> int:
    """Write in bulk what did not change a rollout's phase; returns how many moved on meanwhile."""
    rows = [(move.before, move.result, move.verdicts) for move in plan.quiet]
    return len(parts().store.save_quiet(rows)) if rows else 0


def write(move: Move) -> bool:
    """Commit a move once; somebody else's newer write wins and is judged in the next sweep."""
    if move.written:
        return False
    try:
        parts().store.commit(move.before, move.result, actor=ACTOR, verdicts=move.verdicts)
    except ConflictError as err:
        logger.info("%s moved on meanwhile: %s", move.before.id, err)
        return False
    except StoreUnavailableError:
        raise
    except Exception:  # One rollout that can't be written must not keep the others' cut-offs waiting (MN-02).
        logger.exception("%s could not be written and stays as it is", move.before.id)
        return False
    move.written = True
    return True
