"""What the sequential tests count: pairs, label increments, their states, and the gateways' trips."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = """
ALTER TABLE rollups
    ADD COLUMN pairs_won bigint NOT NULL DEFAULT 0,
    ADD COLUMN pairs_lost bigint NOT NULL DEFAULT 0,
    ADD COLUMN pairs_tied bigint NOT NULL DEFAULT 0;

CREATE TABLE labelled (
    seq bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    arm text NOT NULL,
    rollout_id text NOT NULL,
    bucket timestamptz NOT NULL,
    outcomes integer NOT NULL,
    correct integer NOT NULL,
    pairs_won integer NOT NULL,
    pairs_lost integer NOT NULL,
    pairs_tied integer NOT NULL,
    delay_s double precision NOT NULL
);
CREATE INDEX labelled_new ON labelled (tenant, model, seq);
CREATE INDEX labelled_at ON labelled (at);

ALTER TABLE predictions ADD COLUMN label_seq bigint;
CREATE INDEX predictions_labelled ON predictions (rollout_id, label_seq) WHERE label_seq IS NOT NULL;

CREATE TABLE evidence_state (
    rollout_id text NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    segment text NOT NULL DEFAULT '',
    counted_until timestamptz,
    label_seq bigint NOT NULL,
    state bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (rollout_id, segment)
);
-- Dense numbers, rewritten in every sweep: trying to compress them costs more than it saves.
ALTER TABLE evidence_state ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE trips (
    rollout_id text NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    version text NOT NULL,
    gateway text NOT NULL,
    at timestamptz NOT NULL,
    requests bigint NOT NULL,
    failures bigint NOT NULL,
    log_e double precision NOT NULL,
    PRIMARY KEY (rollout_id, version, gateway)
);
"""

_GROUP = """CASE WHEN {alias}arm = 'shadow' THEN 'shadow' WHEN {alias}arm IN ('holdback', 'excluded') THEN 'control'
        WHEN {alias}arm IN ('champion', 'fallback') AND {alias}version IS DISTINCT FROM t.challenger THEN 'control'
        ELSE 'treatment' END"""
"""The documents' groups. A promoted challenger answers as champion, the old champion as hold-back."""

_RESULTS = """
CREATE OR REPLACE VIEW ab_test_results AS
SELECT time, rollout_id::varchar(100) AS test_id, request_id::varchar(100) AS request_id,
    assigned_group::varchar(20) AS assigned_group,
    (segment->>'symbol')::varchar(20) AS symbol,
    (CASE assigned_group WHEN 'control' THEN prediction ELSE champion_prediction END)::varchar(10) AS control_action,
    CASE assigned_group WHEN 'control' THEN confidence ELSE champion_confidence END AS control_confidence,
    CASE assigned_group WHEN 'control' THEN latency_ms ELSE champion_latency_ms END AS control_latency_ms,
    (CASE WHEN assigned_group <> 'control' THEN prediction END)::varchar(10) AS treatment_action,
    CASE WHEN assigned_group <> 'control' THEN confidence END AS treatment_confidence,
    CASE WHEN assigned_group <> 'control' THEN latency_ms END AS treatment_latency_ms,
    agrees AS actions_match,
    CASE WHEN assigned_group <> 'control' THEN confidence - champion_confidence END AS confidence_delta,
    CASE WHEN assigned_group <> 'control' THEN latency_ms - champion_latency_ms END AS latency_delta_ms
FROM (
    SELECT p.*, {group} AS assigned_group FROM predictions p LEFT JOIN rollouts t ON t.id = p.rollout_id
    WHERE p.rollout_id IS NOT NULL
) p;
"""

_METRICS = """
CREATE OR REPLACE VIEW ab_test_metrics_{name} AS
SELECT date_trunc('{unit}', bucket, 'UTC') AS bucket, rollout_id::varchar(100) AS test_id,
    sum(requests)::bigint AS total_samples,
    sum(requests) FILTER (WHERE assigned_group = 'control')::bigint AS control_count,
    sum(requests) FILTER (WHERE assigned_group = 'treatment')::bigint AS treatment_count,
    sum(requests) FILTER (WHERE assigned_group = 'shadow')::bigint AS shadow_count,
    sum(agreements)::float8 / nullif(sum(paired), 0) AS agreement_rate,
    sum(confidence_delta_sum) / nullif(sum(paired_confidence_n), 0) AS avg_confidence_delta,
    sum(latency_delta_sum_ms) / nullif(sum(paired), 0) AS avg_latency_delta_ms,
    sum(errors) FILTER (WHERE assigned_group <> 'control')::bigint AS treatment_errors
FROM (
    SELECT r.*, {group} AS assigned_group FROM rollups r LEFT JOIN rollouts t ON t.id = r.rollout_id
    WHERE r.rollout_id <> ''
) r GROUP BY 1, 2;
"""

_SUMMARY = """
CREATE OR REPLACE FUNCTION get_ab_test_summary(test_id text) RETURNS TABLE (
    assigned_group text, samples bigint, errors bigint, avg_confidence float8, avg_latency_ms float8,
    stddev_latency_ms float8, outcomes bigint, accuracy float8, brier_score float8,
    agreement_rate float8, avg_confidence_delta float8, avg_latency_delta_ms float8
) LANGUAGE sql STABLE AS $$
    SELECT {group},
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
    FROM rollups r LEFT JOIN rollouts t ON t.id = r.rollout_id
    WHERE r.rollout_id = get_ab_test_summary.test_id GROUP BY 1 ORDER BY 1
$$;
"""

# Answers in a failed challenger's place and in excluded segments were not the split's choice. What the split aims at
# is the weight, less the hold-back.
_SPLIT = """
CREATE OR REPLACE FUNCTION verify_traffic_split(test_id text, hours_back integer DEFAULT 1) RETURNS TABLE (
    target_split float8, actual_split float8, delta float8, control_count bigint, treatment_count bigint,
    within_tolerance boolean
) LANGUAGE sql STABLE AS $$
    WITH counted AS (
        SELECT least(t.weight_percent, 100 - coalesce((t.state->'spec'->'watch'->>'holdback')::float8, 0)) / 100
                AS target,
            count(*) FILTER (WHERE p.version = t.champion) AS control,
            count(*) FILTER (WHERE p.version = t.challenger) AS treatment
        FROM rollouts t LEFT JOIN predictions p ON p.rollout_id = t.id AND p.arm <> 'shadow'
            AND p.reason NOT IN ('fallback', 'excluded')
            AND p.time >= greatest(t.evidence_since, now() - make_interval(hours => verify_traffic_split.hours_back))
        WHERE t.id = verify_traffic_split.test_id GROUP BY t.id
    ), shared AS (
        SELECT *, treatment::float8 / nullif(control + treatment, 0) AS actual FROM counted
    )
    SELECT target, actual, abs(actual - target), control, treatment, abs(actual - target) <= 0.02 FROM shared
$$;
"""


def upgrade() -> None:
    """Make them, and let the documents' views know the hold-back."""
    op.get_bind().exec_driver_sql(_TABLES)
    for name, unit in (("hourly", "hour"), ("daily", "day")):
        op.get_bind().exec_driver_sql(_METRICS.format(name=name, unit=unit, group=_GROUP.format(alias="r.")))
    op.get_bind().exec_driver_sql(_RESULTS.format(group=_GROUP.format(alias="p.")))
    op.get_bind().exec_driver_sql(_SUMMARY.format(group=_GROUP.format(alias="r.")))
    op.get_bind().exec_driver_sql(_SPLIT)


def downgrade() -> None:
    """Refused: the states say what was counted already.

    Raises:
        NotImplementedError: always; restore a backup instead.
    """
    raise NotImplementedError("what the tests have counted would be lost, and counted again")
