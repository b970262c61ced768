"""Shows in Prefect's UI what was decided and why."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from headgate.fleet import Move
from headgate.story import move_as_markdown


@task(cache_policy=NO_CACHE)
def tell_story(move: Move) -> None:
    """Write the artifact with the ruling and the verdict table; its versions are the rollout's story.

    A move that was not written, because somebody moved the rollout meanwhile, is no part of it.
    """
    if not move.written:
        return
    create_markdown_artifact(
        move_as_markdown(move.before, move.result, move.verdicts),
        key=move.artifact_key,
        description=move.title,
    )
