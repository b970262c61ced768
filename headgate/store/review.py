"""What a person or a recovery check asks about one rollout afterwards."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from headgate.core.evidence import Sums
from headgate.core.rollout import RecoveryFacts, Rollout
from headgate.core.stats.histograms import latency_quantiles_ms
from headgate.store.codec import utc_now
from headgate.store.database import Part
from headgate.store.schema import predictions
from headgate.store.windows import Window, Windows


@dataclass(frozen=True, slots=True)
class Served:
    """What the challenger did to real users, from the log's rows.

    Attributes:
        requests: rows routed to it, failed ones included. errors: those the champion had to answer.
        users: different user ids among them.
    """

    requests: int
    errors: int
    first_error_at: datetime | None
    first_at: datetime | None
    last_at: datetime | None
    users: int


@dataclass(frozen=True, slots=True)
class Slice:
    """One value of one dimension: a segment's, or `prediction`, or `error`.

    Attributes:
        outcomes, correct: labelled answers, and those that were right.
        avg_confidence, avg_latency_ms: None where nothing was measured.
    """

    dimension: str
    value: str
    arm: str
    version: str
    requests: int
    errors: int
    outcomes: int
    correct: int
    avg_confidence: float | None
    avg_latency_ms: float | None


_BREAKDOWN = """
WITH seen AS (
    SELECT * FROM predictions WHERE tenant = :tenant AND model = :model AND time >= :since AND time < :until
    AND version IN (:challenger, :champion)
), cut AS (
    SELECT seen.*, d.key AS dimension, d.value AS part FROM seen, jsonb_each_text(segment) d
    WHERE jsonb_typeof(segment) = 'object'
    UNION ALL SELECT seen.*, 'prediction', prediction FROM seen WHERE prediction IS NOT NULL
    UNION ALL SELECT seen.*, 'error', error FROM seen WHERE error IS NOT NULL
)
SELECT dimension, coalesce(part, '') AS value, arm, version, count(*) AS requests, count(error) AS errors,
    count(label) FILTER (WHERE prediction IS NOT NULL) AS outcomes,
    count(*) FILTER (WHERE prediction = label) AS correct,
    avg(confidence) AS avg_confidence, avg(latency_ms) FILTER (WHERE error IS NULL) AS avg_latency_ms
FROM cut GROUP BY dimension, part, arm, version ORDER BY dimension, requests DESC, value, arm, version LIMIT :limit
"""

# Labelling one arm's unsure answers and not the other's would make that arm look worse than it is: both are taken from
# the bottom of their own ranking, and a disagreement's label tells on both at once.
_QUEUE = """
WITH open AS (
    SELECT *, agrees IS FALSE AND arm = 'shadow' AS differs,
        percent_rank() OVER (PARTITION BY version, arm ORDER BY confidence) AS sureness
    FROM (
        SELECT * FROM predictions WHERE rollout_id = :id AND time >= :since AND label IS NULL
        AND prediction IS NOT NULL AND version IN (:challenger, :champion) AND reason NOT IN ('fallback', 'fallback_not_loaded', 'fallback_overload', 'excluded')
        ORDER BY time DESC LIMIT 200000
    ) newest
), ordered AS (
    SELECT *, row_number() OVER (PARTITION BY request_id, "row" ORDER BY differs DESC, sureness NULLS LAST) AS place
    FROM open
)
SELECT request_id, "row", time, model, tenant, arm,
    CASE WHEN version = :challenger THEN prediction END AS challenger_prediction,
    CASE WHEN version = :challenger THEN confidence END AS challenger_confidence,
    CASE WHEN version = :challenger THEN champion_prediction ELSE prediction END AS champion_prediction,
    CASE WHEN version = :challenger THEN champion_confidence ELSE confidence END AS champion_confidence, inputs
FROM ordered WHERE place = 1
ORDER BY differs DESC, CASE WHEN differs THEN abs(confidence - champion_confidence) END DESC NULLS LAST,
    CASE WHEN differs THEN confidence END NULLS LAST, sureness NULLS LAST, time DESC, request_id, "row" LIMIT :limit
"""


class Review(Part):
    """Reads the rows behind the sums."""

    def served_by(self, rollout: Rollout) -> Served:
        """What users met of the challenger."""
        p = predictions.c
        query = sa.select(
            sa.func.count(),
            sa.func.count(p.error),
            sa.func.min(p.time).filter(p.error.is_not(None)),
            sa.func.min(p.time),
            sa.func.max(p.time),
            sa.func.count(p.user_id.distinct()),
        ).where(p.rollout_id == rollout.id, p.arm == "challenger", p.time >= rollout.created_at)
        with self.db.transaction() as connection:
            return Served(*connection.execute(query).one())

    def sample_predictions(self, rollout: Rollout, limit: int = 100) -> list[dict[str, Any]]:
        """Rows of the challenger: failures and disagreements first, then the newest; every column of the log."""
        p = predictions.c
        telling = sa.case(
            (p.error.is_not(None), 0), (p.agrees.is_(False), 1), (p.prediction != p.label, 2), else_=3
        )
        query = sa.select(predictions).where(
            p.rollout_id == rollout.id, p.version == rollout.challenger, p.time >= rollout.created_at
        )
        with self.db.transaction() as connection:
            rows = connection.execute(query.order_by(telling, p.time.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def label_queue(self, rollout: Rollout, limit: int = 500) -> list[dict[str, Any]]:
        """Unlabelled answers whose label tells most, of the last 7 days, each request's row once.

        First shadow answers that differ from the champion's, those with the widest gap in confidence before, then the
        answers that either version was least sure of.

        Returns:
            request_id, row, time, model, tenant, arm, challenger_prediction, challenger_confidence,
            champion_prediction, champion_confidence (None where a version did not answer), inputs.
        """
        until = rollout.finished_at if rollout.finished_at is not None else utc_now()
        given = {
            "id": rollout.id,
            "challenger": rollout.challenger,
            "champion": rollout.champion,
            "since": max(rollout.created_at, until - timedelta(days=7)),
            "limit": limit,
        }
        with self.db.transaction() as connection:
            return [dict(row) for row in connection.execute(sa.text(_QUEUE), given).mappings()]

    def breakdown(self, rollout: Rollout, now: datetime, limit: int = 500) -> list[Slice]:
        """Both versions' counts by segment, by prediction and by error since the rollout began (at most 7 days)."""
        until = rollout.finished_at if rollout.finished_at is not None else now
        given = {
            "tenant": rollout.tenant,
            "model": rollout.model,
            "challenger": rollout.challenger,
            "champion": rollout.champion,
            "since": max(rollout.created_at, until - timedelta(days=7)),
            "until": until,
            "limit": limit,
        }
        with self.db.transaction() as connection:
            return [Slice(**row) for row in connection.execute(sa.text(_BREAKDOWN), given).mappings()]

    def read_recovery(self, rollout: Rollout, now: datetime) -> RecoveryFacts:
        """What was measured since the cutoff was effective, beside the champion's own time before the rollback."""
        assert isinstance(self, Windows)  # noqa: S101 - a part of the same store
        hours = timedelta(hours=rollout.spec.policies.confidence_drift.confidence_baseline_window_hours)
        before = rollout.recovery.started_at if rollout.recovery is not None else now
        before = min(before, rollout.promoted_at) if rollout.promoted_at is not None else before
        # Nothing counts as measured after a cutoff that is not known to be effective.
        since = rollout.effective_since if rollout.effective_since is not None else now

        def window(version: str, arm: str, start: datetime, end: datetime) -> Window:
            return Window(rollout.tenant, rollout.model, version, arm, start, end)

        canary, promoted, after, baseline = self.read_sums(
            [
                window(rollout.challenger, "challenger", since, now),
                window(rollout.challenger, "champion", since, now),
                window(rollout.champion, "champion", since, now),
                window(rollout.champion, "champion", before - hours, before),
            ]
        )
        return RecoveryFacts(
            challenger_requests=canary.requests + promoted.requests,
            champion_requests=after.requests,
            p95_ms=_p95_ms(after),
            baseline_p95_ms=_p95_ms(baseline),
            error_rate=_share(after.errors, after.requests),
            baseline_error_rate=_share(baseline.errors, baseline.requests),
            cache_hit_rate=_share(after.cache_hits, after.cache_hits + after.cache_misses),
            baseline_cache_hit_rate=_share(baseline.cache_hits, baseline.cache_hits + baseline.cache_misses),
        )


def _p95_ms(sums: Sums) -> float | None:
    (p95,) = latency_quantiles_ms(sums.latency_hist, (0.95,))
    return p95 if math.isfinite(p95) else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
