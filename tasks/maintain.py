"""Keeps the store small: old sums folded, coming days prepared, days past their time archived and dropped."""

from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.archive import keep_log
from headgate.errors import ArtifactsUnavailableError
from headgate.exporting import export_evidence
from headgate.watch import utc_now
from tasks.parts import parts

_ANY_KEY = "evidence"


@task(cache_policy=NO_CACHE)
def fold_and_drop() -> bool:
    """Fold, prepare and, where nothing is archived first, drop; False when another process does it right now."""
    settings = parts().settings
    keep, archiving = timedelta(days=settings.keep_days), settings.artifacts is not None
    return parts().store.maintain(utc_now(), keep=keep, archiving=archiving)


@task(cache_policy=NO_CACHE)
def deliver_artifacts() -> str:
    """Deliver what waits for the artifact store, copy evidence there, take away what dead writers left."""
    artifacts = parts().artifacts
    delivered, exported = artifacts.deliver_pending(), export_evidence(parts())
    # With nothing to deliver nobody would have asked: a place that is away fails the run.
    artifacts.stat(_ANY_KEY)
    said = f"{delivered} object(s) delivered, {exported} record(s) of evidence copied"
    try:
        artifacts.tidy()
    except ArtifactsUnavailableError as err:  # Some S3 do not tell of uploads that were never ended.
        return f"{said}; what dead writers left could not be looked for: {err}"
    return said


@task(cache_policy=NO_CACHE)
def archive_and_drop() -> tuple[str, bool]:
    """Archive days that are old enough, drop those past their time that are archived; what was done, and whether all went well."""
    settings = parts().settings
    if settings.artifacts is None:
        said = f"days are dropped after {settings.keep_days} days, unarchived: HEADGATE_ARTIFACTS is not set"
        return said, True
    kept = keep_log(
        parts().store,
        parts().artifacts,
        utc_now(),
        archive_after_days=settings.archive_after_days,
        keep_days=settings.keep_days,
        work=settings.home / "archiving",
    )
    return str(kept), kept.problem is None
