"""Judges a day's drift: whose, each piece of the fleet, the pages of those that moved, their links in Prefect."""

from datetime import date

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from headgate import drift
from headgate.drift import service, shown
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def plan_reports(
    day: date | None, model: str | None, tenant: str | None
) -> tuple[date, list[list[drift.Key]]]:
    """The day, yesterday by default, and pieces of the fleet with sums of it."""
    wanted = day if day is not None else drift.yesterday()
    return wanted, service.chunked(drift.subjects_of(parts(), wanted, tenant, model))


@task(cache_policy=NO_CACHE, task_run_name="judge {day}")
def judge_chunk(keys: list[drift.Key], day: date) -> drift.DayJudged:
    """Judge one piece, keep its reports, tell its causes."""
    judged = drift.judge_subjects(parts(), day, keys)
    get_run_logger().info("%s", judged.summary())
    return judged


@task(cache_policy=NO_CACHE, task_run_name="pages of {key}")
def publish_report(key: drift.Key, day: date) -> None:
    """Make one model's pages and link them from this run."""
    told = service.publish_kept(parts(), key, day)
    create_markdown_artifact(
        shown.as_markdown(told), key=shown.artifact_key(key), description=shown.title(told)
    )
    for name, address in shown.pages(told).items():
        create_link_artifact(
            address, link_text=f"{key[1]} of {key[0]}, {day}: {name}", key=shown.artifact_key(key, name)
        )


@task(cache_policy=NO_CACHE)
def tell_day(
    day: date, pieces: list[drift.DayJudged], model: str | None, tenant: str | None
) -> drift.DayJudged:
    """Put the pieces together and show the day as a table."""
    judged = sum(pieces, start=drift.uncollected(parts(), day, tenant, model))
    create_markdown_artifact(shown.day_as_markdown(judged), key="drift", description=judged.summary())
    return judged
