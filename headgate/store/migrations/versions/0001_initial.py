"""Rollouts, audit, outbox, prediction log, outcomes, rollups."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CONTROL = """
CREATE TABLE rollouts (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    model text NOT NULL,
    challenger text NOT NULL,
    champion text NOT NULL,
    phase text NOT NULL,
    pause_reason text,
    step integer NOT NULL,
    weight_percent double precision NOT NULL CHECK (weight_percent BETWEEN 0 AND 100),
    revision integer NOT NULL,
    live boolean NOT NULL,
    created_at timestamptz NOT NULL,
    evidence_since timestamptz NOT NULL,
    finished_at timestamptz,
    state jsonb NOT NULL
);
CREATE UNIQUE INDEX rollouts_one_live ON rollouts (tenant, model) WHERE live;
CREATE INDEX rollouts_newest ON rollouts (created_at);

CREATE TABLE verdicts (
    rollout_id text PRIMARY KEY REFERENCES rollouts (id),
    at timestamptz NOT NULL,
    verdicts jsonb NOT NULL
);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollout_id text NOT NULL REFERENCES rollouts (id),
    kind text NOT NULL,
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    last_error text,
    done_at timestamptz
);
CREATE INDEX outbox_pending ON outbox (rollout_id, id) WHERE done_at IS NULL;
CREATE TABLE approvals (
    rollout_id text NOT NULL REFERENCES rollouts (id),
    step integer NOT NULL,
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decision text CHECK (decision IN ('approve', 'reject')),
    by text,
    at timestamptz,
    via text,
    reason text,
    flow_run_id text,
    PRIMARY KEY (rollout_id, step, requested_at)
);
CREATE TABLE flags (
    name text PRIMARY KEY,
    rollout_id text NOT NULL,
    enabled boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX flags_rollout ON flags (rollout_id);
CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    rollout_id text NOT NULL,
    tenant text NOT NULL,
    model text NOT NULL,
    detail jsonb NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text
);
CREATE INDEX alerts_newest ON alerts (at);
CREATE TABLE signals (
    tenant text NOT NULL,
    model text NOT NULL,
    name text NOT NULL,
    value double precision NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant, model, name)
);
"""

_AUDIT = """
CREATE TABLE transitions (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    rollout_id text NOT NULL,
    tenant text NOT NULL,
    model text NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    from_phase text,
    to_phase text,
    body text NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL
);
CREATE INDEX transitions_rollout ON transitions (rollout_id, seq);
CREATE TABLE audit_head (
    one boolean PRIMARY KEY CHECK (one),
    seq bigint NOT NULL,
    hash text NOT NULL
);
INSERT INTO audit_head VALUES (true, 0, '');

CREATE FUNCTION headgate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_OP || ' on ' || TG_TABLE_NAME || ' is refused: the audit is append-only';
END $$;
CREATE TRIGGER transitions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transitions
    FOR EACH STATEMENT EXECUTE FUNCTION headgate_refuse_change();
CREATE TRIGGER audit_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION headgate_refuse_change();
CREATE FUNCTION headgate_only_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> OLD.seq + 1 THEN
        RAISE EXCEPTION 'the head of the audit only moves forward by one';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_head_forward BEFORE UPDATE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION headgate_only_forward();
"""

_LOG = """
CREATE TABLE predictions (
    time timestamptz NOT NULL,
    tenant text NOT NULL,
    model text NOT NULL,
    request_id text NOT NULL,
    "row" integer NOT NULL,
    key text NOT NULL,
    key_kind text NOT NULL,
    user_id text,
    arm text NOT NULL,
    version text NOT NULL,
    rollout_id text,
    reason text NOT NULL,
    prediction text,
    confidence double precision,
    latency_ms double precision,
    error text,
    error_detail text,
    fallback boolean NOT NULL,
    cache text,
    segment jsonb,
    inputs jsonb,
    champion_prediction text,
    champion_confidence double precision,
    champion_latency_ms double precision,
    agrees boolean,
    champion_version text,
    label text,
    labelled_at timestamptz
) PARTITION BY RANGE (time);
CREATE INDEX predictions_request ON predictions (tenant, model, request_id);
CREATE INDEX predictions_rollout ON predictions (rollout_id, time) WHERE rollout_id IS NOT NULL;
CREATE TABLE predictions_default PARTITION OF predictions DEFAULT;

CREATE TABLE outcomes (
    tenant text NOT NULL,
    model text NOT NULL,
    request_id text NOT NULL,
    "row" integer NOT NULL,
    label text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant, model, request_id, "row")
);
CREATE INDEX outcomes_at ON outcomes (at);
CREATE TABLE log_batches (
    id text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE rollups (
    tenant text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    arm text NOT NULL,
    bucket timestamptz NOT NULL,
    bucket_s integer NOT NULL CHECK (bucket_s > 0),
    writer text NOT NULL,
    rollout_id text NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    errors bigint NOT NULL DEFAULT 0,
    fallbacks bigint NOT NULL DEFAULT 0,
    retries bigint NOT NULL DEFAULT 0,
    retry_failures bigint NOT NULL DEFAULT 0,
    cache_hits bigint NOT NULL DEFAULT 0,
    cache_misses bigint NOT NULL DEFAULT 0,
    cache_evictions bigint NOT NULL DEFAULT 0,
    outcomes bigint NOT NULL DEFAULT 0,
    correct bigint NOT NULL DEFAULT 0,
    brier_n bigint NOT NULL DEFAULT 0,
    brier_sum double precision NOT NULL DEFAULT 0,
    latency_n bigint NOT NULL DEFAULT 0,
    latency_sum_ms double precision NOT NULL DEFAULT 0,
    latency_sumsq_ms2 double precision NOT NULL DEFAULT 0,
    confidence_n bigint NOT NULL DEFAULT 0,
    confidence_sum double precision NOT NULL DEFAULT 0,
    confidence_sumsq double precision NOT NULL DEFAULT 0,
    paired bigint NOT NULL DEFAULT 0,
    agreements bigint NOT NULL DEFAULT 0,
    paired_confidence_n bigint NOT NULL DEFAULT 0,
    confidence_delta_sum double precision NOT NULL DEFAULT 0,
    latency_delta_sum_ms double precision NOT NULL DEFAULT 0,
    errors_extraction bigint NOT NULL DEFAULT 0,
    errors_serialization bigint NOT NULL DEFAULT 0,
    errors_timeout bigint NOT NULL DEFAULT 0,
    errors_cache bigint NOT NULL DEFAULT 0,
    errors_model bigint NOT NULL DEFAULT 0,
    latency_hist bytea NOT NULL DEFAULT ''::bytea,
    confidence_hist bytea NOT NULL DEFAULT ''::bytea,
    PRIMARY KEY (tenant, model, version, arm, bucket, bucket_s, writer, rollout_id)
);
CREATE INDEX rollups_age ON rollups (bucket_s, bucket);
"""


def upgrade() -> None:
    """Make everything."""
    for script in (_CONTROL, _AUDIT, _LOG):
        op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Refused: it would drop the audit.

    Raises:
        NotImplementedError: always; restore a backup instead.
    """
    raise NotImplementedError("the first migration can't be undone: the audit would be lost")
