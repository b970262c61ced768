"""The steps of a retraining, each safe to run again."""

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.retraining import advancing, form, proposing, telling
from tasks.parts import parts

P = RetrainingPhase


@task(cache_policy=NO_CACHE)
def take_up(model: str, tenant: str, retraining_id: str, actor: str, reason: str, anyway: bool) -> Retraining:
    """The retraining that is meant: by its id, the live one, or a new one asked for by hand."""
    store = parts().store
    if retraining_id:
        return store.retraining(retraining_id)
    known = store.live_retraining(model, tenant)
    return known or proposing.retrain(parts(), model, tenant, actor=actor, reason=reason, anyway=anyway)


@task(cache_policy=NO_CACHE)
def allow_or_ask(one: Retraining) -> Retraining:
    """Let it begin, or ask a person."""
    return _advance(one, P.PROPOSED, P.AWAITING_APPROVAL)


@task(cache_policy=NO_CACHE)
def cut_and_train(one: Retraining) -> Retraining:
    """Cut the data from the log, and run the model's own training."""
    return _advance(one, P.APPROVED, P.TRAINING)


@task(cache_policy=NO_CACHE)
def validate_and_register(one: Retraining) -> Retraining:
    """Candidate beside champion on the newest labels; a version with the alias `challenger` if it passes."""
    return _advance(one, P.VALIDATING)


@task(cache_policy=NO_CACHE)
def follow_rollout(one: Retraining) -> Retraining:
    """See how far its rollout is."""
    return _advance(one, P.REGISTERED, P.ROLLING_OUT, P.WATCHING)


@task(cache_policy=NO_CACHE)
def carry_on() -> list[Retraining]:
    """Carry every live retraining on, and have those trained that may be; returns them."""
    return advancing.advance_all(parts())


@task(cache_policy=NO_CACHE)
def propose_all(model: str | None, tenant: str | None) -> list[proposing.Proposal]:
    """Propose wherever a trigger holds and no safeguard stands in the way."""
    return proposing.propose(parts(), model=model, tenant=tenant)


@task(cache_policy=NO_CACHE)
def read_retraining_request(retraining_id: str) -> form.RetrainingRequest | None:
    """The open request; None when it was answered or has run out."""
    return form.open_request(parts(), retraining_id)


@task(cache_policy=NO_CACHE)
def write_retraining_answer(retraining_id: str, answer: form.RetrainingAnswer) -> Retraining:
    """Write the answer, and begin where it is a yes."""
    return form.write_answer(parts(), retraining_id, answer)


@task(cache_policy=NO_CACHE)
def tell_retraining(one: Retraining) -> None:
    """Write the artifact with its whole story; its versions are the story so far."""
    markdown = telling.story(one, telling.links(parts(), one))
    create_markdown_artifact(markdown, key=telling.artifact_key(one), description=one.said[:200])


@task(cache_policy=NO_CACHE)
def tell_proposals(proposals: Sequence[proposing.Proposal]) -> None:
    """Write the artifact that says of each model why it is trained again, or why not."""
    create_markdown_artifact(telling.proposals_table(proposals), key="retraining-proposals")


def _advance(one: Retraining, *phases: RetrainingPhase) -> Retraining:
    if one.phase not in phases:
        return one
    after = advancing.advance(parts(), one.id, phases=phases)
    tell_retraining.fn(after)
    return after
