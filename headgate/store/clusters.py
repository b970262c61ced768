"""How one step's traffic hangs together: who was seen, on which arms, and how alike a key's own answers are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np
from psycopg.rows import TupleRow

from headgate.core.evidence import CONFIDENCE_BINS
from headgate.core.guard.state import Clusters
from headgate.core.rollout import Phase, Rollout
from headgate.core.stats.design_effect import design_effect_of_sums
from headgate.core.stats.estimate import calibrate, expected_accuracy
from headgate.store.database import Part

LOOK_BACK = timedelta(hours=6)
MAX_ROWS = 200_000
SETTLING = timedelta(seconds=10)
"""After a new weight is in force: gateways may still answer by the old one, and would seem to mix the arms."""

# Only what the split chose counts. `slow` and `unsure` are beyond the champion's usual 95 % and median; `keys` counts
# each key once, and as bad those that were seen on the other arm too.
_CLUSTERS = """
WITH seen AS MATERIALIZED (
    SELECT key, version = %(challenger)s AS challenger, error, prediction, label, latency_ms, confidence
    FROM predictions WHERE rollout_id = %(id)s AND time >= %(since)s AND time <= %(until)s AND arm <> 'shadow'
    AND version IN (%(challenger)s, %(champion)s)
    AND reason NOT IN ('fallback', 'fallback_not_loaded', 'fallback_overload', 'excluded', 'cut_off', 'test_disabled', 'split_unreadable')
    ORDER BY time DESC LIMIT %(rows)s
), usual AS (
    SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_ms) AS slow,
        percentile_disc(0.5) WITHIN GROUP (ORDER BY confidence) AS unsure FROM seen WHERE NOT challenger
), users AS (
    SELECT key, challenger, count(*) OVER (PARTITION BY key) - 1 AS elsewhere, count(*) AS n, count(error) AS failed,
        count(*) FILTER (WHERE prediction IS NOT NULL AND label IS NOT NULL) AS labelled,
        count(*) FILTER (WHERE prediction <> label) AS wrong,
        count(latency_ms) FILTER (WHERE error IS NULL) AS timed,
        count(*) FILTER (WHERE error IS NULL AND latency_ms > usual.slow) AS slow,
        count(confidence) AS rated, count(*) FILTER (WHERE confidence < usual.unsure) AS unsure
    FROM seen, usual GROUP BY key, challenger
)
SELECT m.metric, u.challenger, count(*) FILTER (WHERE m.n > 0), sum(m.n)::float8, sum(m.x)::float8,
    sum(m.n * m.n)::float8, sum(m.n * m.x)::float8, sum(m.x * m.x)::float8
FROM users u, LATERAL (VALUES ('keys', 1::bigint, u.elsewhere), ('errors', u.n, u.failed), ('wrong', u.labelled, u.wrong),
    ('slow', u.timed, u.slow), ('unsure', u.rated, u.unsure)) m (metric, n, x)
GROUP BY 1, 2
"""


_CONFIDENCES = f"""
SELECT challenger, least({CONFIDENCE_BINS - 1}, greatest(0, floor(confidence * {CONFIDENCE_BINS})))::int,
    count(*), count(label), count(*) FILTER (WHERE prediction = label)
FROM (
    SELECT version = %(challenger)s AS challenger, confidence, prediction, label FROM predictions
    WHERE rollout_id = %(id)s AND time >= %(began)s AND time <= %(until)s
    AND version IN (%(challenger)s, %(champion)s)
    AND confidence IS NOT NULL AND prediction IS NOT NULL AND reason NOT IN ('fallback', 'fallback_not_loaded', 'fallback_overload', 'excluded')
    ORDER BY time DESC LIMIT %(rows)s
) p GROUP BY 1, 2
"""  # noqa: S608 - the number of bins is ours
LEAST_LABELS = 200
"""Labelled answers of each version below which their confidences foretell nothing."""


class ClusterReads(Part):
    """Reads whole prediction rows; not for every sweep."""

    def read_clusters(self, rollout: Rollout, now: datetime) -> Clusters:
        """How the step's traffic hangs together by routing key: a user, an entity, or one request of many rows.

        Counted are the newest rows since the weight is in force, of at most six hours; before the registry was seen to
        show it there is nothing to count. In shadow users meet the champion only: no key has an arm, but how alike a
        key's answers are is told.

        Returns:
            Design effects of `errors`, `wrong`, `slow` and `unsure`, each weighted as it enters the variance of the
            difference between the arms.
        """
        weight = rollout.served_percent
        exposed = rollout.base_phase in (Phase.PROGRESSING, Phase.PROMOTING, Phase.WATCHING)
        if rollout.effective_since is None or not (exposed or rollout.base_phase is Phase.SHADOWING):
            return Clusters((0, 0), 0, weight)
        given = {
            "id": rollout.id,
            "challenger": rollout.challenger,
            "champion": rollout.champion,
            "since": max(rollout.effective_since + SETTLING, now - LOOK_BACK),
            "until": now,
            "rows": MAX_ROWS,
        }
        arms: dict[str, dict[bool, _Sums]] = {}
        with self.db.cursor() as cursor:
            cursor.execute(_CLUSTERS, given, prepare=False)
            for metric, challenger, *sums in cursor:
                arms.setdefault(metric, {})[challenger] = _Sums(*sums)
            began = max(rollout.created_at, now - LOOK_BACK)
            cursor.execute(_CONFIDENCES, given | {"began": began}, prepare=False)
            confidences = cursor.fetchall()
        keys = arms.pop("keys", {})
        deff = {metric: _of_the_difference(list(found.values())) for metric, found in arms.items()}
        deff = {metric: value for metric, value in deff.items() if not math.isnan(value)}
        if not exposed:
            return Clusters((0, 0), 0, weight, deff)
        return Clusters(
            keys=(_keys(keys, challenger=True), _keys(keys, challenger=False)),
            both=round(keys[True].x) if True in keys else 0,
            weight_percent=weight,
            deff=deff,
            estimate=_estimate(confidences),
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Over the keys of one arm: how many have samples, their samples n and bad ones x, and the products of these."""

    users: int
    n: float
    x: float
    n2: float
    nx: float
    x2: float


def _estimate(rows: Sequence[TupleRow]) -> tuple[float, float, float] | None:
    """Accuracy of challenger and champion as their confidences foretell it, and the standard error of the difference."""
    hists = np.zeros((2, 3, CONFIDENCE_BINS), dtype=np.int64)
    for challenger, place, *counts in rows:
        hists[0 if challenger else 1, :, place] = counts
    if (hists[:, 1].sum(axis=1) < LEAST_LABELS).any():
        return None
    (own, own_se), (champions, champions_se) = (
        expected_accuracy(every, calibrate(labelled, right)) for every, labelled, right in hists
    )
    error = math.hypot(own_se, champions_se)
    return (own, champions, error) if math.isfinite(error) else None


def _keys(arms: Mapping[bool, _Sums], *, challenger: bool) -> int:
    return arms[challenger].users if challenger in arms else 0


def _of_the_difference(arms: Sequence[_Sums]) -> float:
    """The design effect of the difference of two rates: each arm's, weighted by its share of the variance."""
    total, weights = 0.0, 0.0
    for sums in arms:
        deff = design_effect_of_sums(**asdict(sums))
        if not math.isnan(deff):
            total, weights = total + deff / sums.n, weights + 1 / sums.n
    return total / weights if weights else math.nan
