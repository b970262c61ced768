"""The documents' own names as views and functions over our tables (acceptance DB-01 to DB-04)."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_CONFIGS = """
CREATE VIEW ab_test_configs AS
SELECT r.id::varchar(100) AS test_id,
    (CASE WHEN NOT r.live THEN 'disabled'
        WHEN coalesce(CASE r.phase WHEN 'paused' THEN r.state->>'held' END, r.phase) IN ('pending', 'shadowing')
        THEN 'shadow' ELSE 'traffic_split' END)::varchar(50) AS mode,
    ('models:/' || r.model || '/' || r.champion)::varchar(255) AS control_model,
    ('models:/' || r.model || '/' || r.challenger)::varchar(255) AS treatment_model,
    r.weight_percent / 100 AS traffic_split,
    r.live AND coalesce((SELECT bool_and(f.enabled) FROM flags f WHERE f.rollout_id = r.id), true) AS enabled,
    r.created_at,
    r.state->'spec'->>'description' AS description
FROM rollouts r;
"""

_RESULTS = """
CREATE VIEW ab_test_results AS
SELECT time, rollout_id::varchar(100) AS test_id, request_id::varchar(100) AS request_id,
    (CASE arm WHEN 'champion' THEN 'control' WHEN 'shadow' THEN 'shadow' ELSE 'treatment' END)::varchar(20)
        AS assigned_group,
    (segment->>'symbol')::varchar(20) AS symbol,
    (CASE arm WHEN 'champion' THEN prediction ELSE champion_prediction END)::varchar(10) AS control_action,
    CASE arm WHEN 'champion' THEN confidence ELSE champion_confidence END AS control_confidence,
    CASE arm WHEN 'champion' THEN latency_ms ELSE champion_latency_ms END AS control_latency_ms,
    (CASE WHEN arm <> 'champion' THEN prediction END)::varchar(10) AS treatment_action,
    CASE WHEN arm <> 'champion' THEN confidence END AS treatment_confidence,
    CASE WHEN arm <> 'champion' THEN latency_ms END AS treatment_latency_ms,
    agrees AS actions_match,
    CASE WHEN arm <> 'champion' THEN confidence - champion_confidence END AS confidence_delta,
    CASE WHEN arm <> 'champion' THEN latency_ms - champion_latency_ms END AS latency_delta_ms
FROM predictions WHERE rollout_id IS NOT NULL;
"""

_METRICS = """
CREATE VIEW ab_test_metrics_{name} AS
SELECT date_trunc('{unit}', bucket, 'UTC') AS bucket, rollout_id::varchar(100) AS test_id,
    sum(requests)::bigint AS total_samples,
    sum(requests) FILTER (WHERE arm = 'champion')::bigint AS control_count,
    sum(requests) FILTER (WHERE arm NOT IN ('champion', 'shadow'))::bigint AS treatment_count,
    sum(requests) FILTER (WHERE arm = 'shadow')::bigint AS shadow_count,
    sum(agreements)::float8 / nullif(sum(paired), 0) AS agreement_rate,
    sum(confidence_delta_sum) / nullif(sum(paired_confidence_n), 0) AS avg_confidence_delta,
    sum(latency_delta_sum_ms) / nullif(sum(paired), 0) AS avg_latency_delta_ms,
    sum(errors) FILTER (WHERE arm <> 'champion')::bigint AS treatment_errors
FROM rollups WHERE rollout_id <> '' GROUP BY 1, 2;
"""

_SUMMARY = """
CREATE FUNCTION get_ab_test_summary(test_id text) RETURNS TABLE (
    assigned_group text, samples bigint, errors bigint, avg_confidence float8, avg_latency_ms float8,
    stddev_latency_ms float8, outcomes bigint, accuracy float8, brier_score float8,
    agreement_rate float8, avg_confidence_delta float8, avg_latency_delta_ms float8
) LANGUAGE sql STABLE AS $$
    SELECT CASE arm WHEN 'champion' THEN 'control' WHEN 'shadow' THEN 'shadow' ELSE 'treatment' END,
        sum(r.requests)::bigint, sum(r.errors)::bigint,
        sum(r.confidence_sum) / nullif(sum(r.confidence_n), 0),
        sum(r.latency_sum_ms) / nullif(sum(r.latency_n), 0),
        sqrt(greatest(0, sum(r.latency_sumsq_ms2) / nullif(sum(r.latency_n), 0)
            - power(sum(r.latency_sum_ms) / nullif(sum(r.latency_n), 0), 2))),
        sum(r.outcomes)::bigint,
        sum(r.correct)::float8 / nullif(sum(r.outcomes), 0),
        sum(r.brier_sum) / nullif(sum(r.brier_n), 0),
        sum(r.agreements)::float8 / nullif(sum(r.paired), 0),
        sum(r.confidence_delta_sum) / nullif(sum(r.paired_confidence_n), 0),
        sum(r.latency_delta_sum_ms) / nullif(sum(r.paired), 0)
    FROM rollups r WHERE r.rollout_id = get_ab_test_summary.test_id GROUP BY 1 ORDER BY 1
$$;
"""

# Only the newest step is compared: over several weights there is no one target (acceptance C2). A champion's
# answer in a failed challenger's place was not the split's choice.
_SPLIT = """
CREATE FUNCTION verify_traffic_split(test_id text, hours_back integer DEFAULT 1) RETURNS TABLE (
    target_split float8, actual_split float8, delta float8, control_count bigint, treatment_count bigint,
    within_tolerance boolean
) LANGUAGE sql STABLE AS $$
    WITH counted AS (
        SELECT r.weight_percent / 100 AS target,
            count(*) FILTER (WHERE p.arm = 'champion') AS control,
            count(*) FILTER (WHERE p.arm NOT IN ('champion', 'shadow')) AS treatment
        FROM rollouts r LEFT JOIN predictions p ON p.rollout_id = r.id AND p.reason <> 'fallback'
            AND p.time >= greatest(r.evidence_since, now() - make_interval(hours => verify_traffic_split.hours_back))
        WHERE r.id = verify_traffic_split.test_id GROUP BY r.weight_percent
    ), shared AS (
        SELECT *, treatment::float8 / nullif(control + treatment, 0) AS actual FROM counted
    )
    SELECT target, actual, abs(actual - target), control, treatment, abs(actual - target) <= 0.02 FROM shared
$$;
"""


def upgrade() -> None:
    """Make them."""
    hourly, daily = (
        _METRICS.format(name=name, unit=unit) for name, unit in (("hourly", "hour"), ("daily", "day"))
    )
    for script in (_CONFIGS, _RESULTS, hourly, daily, _SUMMARY, _SPLIT):
        op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Drop them; no data is lost."""
    op.execute("DROP FUNCTION verify_traffic_split, get_ab_test_summary")
    op.execute("DROP VIEW ab_test_metrics_daily, ab_test_metrics_hourly, ab_test_results, ab_test_configs")
