-- The documents' own names over headgate's tables: ab_test_configs, ab_test_results, ab_test_metrics_hourly and _daily,
-- get_ab_test_summary(), verify_traffic_split(), get_ab_test_breakdown().
--
-- `headgate up` applies it with every migration. By hand, as often as one likes, on a database that headgate has prepared:
--     psql "$HEADGATE_DATABASE_URL" -c '\i headgate/store/ab_tests.sql'
-- Nothing here holds data: a test is a rollout, its results are the prediction log, its metrics are sums of the rollups,
-- which stay small however long it runs. Plain PostgreSQL; TimescaleDB is not needed.

BEGIN;

DO $$ BEGIN
    IF to_regclass('rollouts') IS NULL OR to_regclass('labelled') IS NULL THEN
        RAISE EXCEPTION 'this database has no headgate tables yet: run `headgate up` (or start the gateway) on it first';
    END IF;
END $$;

DROP VIEW IF EXISTS ab_test_metrics_daily, ab_test_metrics_hourly, ab_test_results, ab_test_configs;
DROP FUNCTION IF EXISTS verify_traffic_split(text, integer);
DROP FUNCTION IF EXISTS get_ab_test_summary(text);

-- Control is the champion beside the challenger. A promoted challenger answers as champion, and the old champion as
-- hold-back; the version tells which is which.
CREATE OR REPLACE FUNCTION headgate_group(arm text, version text, challenger text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN arm = 'shadow' THEN 'shadow' WHEN arm IN ('holdback', 'excluded') THEN 'control'
        WHEN arm IN ('champion', 'fallback') AND version IS DISTINCT FROM challenger THEN 'control'
        ELSE 'treatment' END
$$;

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

-- test_id has no length here: a cast that may cut would keep PostgreSQL from using the index on the rollout.
CREATE VIEW ab_test_results AS
SELECT time, rollout_id::varchar AS test_id, request_id::varchar(100) AS request_id,
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
    SELECT p.*, headgate_group(p.arm, p.version, t.challenger) AS assigned_group
    FROM predictions p LEFT JOIN rollouts t ON t.id = p.rollout_id
    WHERE p.rollout_id IS NOT NULL
) p;

DO $do$
DECLARE
    span text[];
BEGIN
    FOREACH span SLICE 1 IN ARRAY ARRAY[['hourly', 'hour'], ['daily', 'day']] LOOP
        EXECUTE format($view$
CREATE VIEW ab_test_metrics_%s AS
SELECT date_trunc(%L, bucket, 'UTC') AS bucket, rollout_id::varchar AS test_id,
    sum(requests)::bigint AS total_samples,
    sum(requests) FILTER (WHERE assigned_group = 'control')::bigint AS control_count,
    sum(requests) FILTER (WHERE assigned_group = 'treatment')::bigint AS treatment_count,
    sum(requests) FILTER (WHERE assigned_group = 'shadow')::bigint AS shadow_count,
    sum(agreements)::float8 / nullif(sum(paired), 0) AS agreement_rate,
    sum(confidence_delta_sum) / nullif(sum(paired_confidence_n), 0) AS avg_confidence_delta,
    sum(latency_delta_sum_ms) / nullif(sum(paired), 0) AS avg_latency_delta_ms,
    sum(errors) FILTER (WHERE assigned_group <> 'control')::bigint AS treatment_errors,
    sum(confidence_sum) FILTER (WHERE assigned_group = 'control')
        / nullif(sum(confidence_n) FILTER (WHERE assigned_group = 'control'), 0) AS control_avg_confidence,
    sum(confidence_sum) FILTER (WHERE assigned_group <> 'control')
        / nullif(sum(confidence_n) FILTER (WHERE assigned_group <> 'control'), 0) AS treatment_avg_confidence,
    sum(latency_sum_ms) FILTER (WHERE assigned_group = 'control')
        / nullif(sum(latency_n) FILTER (WHERE assigned_group = 'control'), 0) AS control_avg_latency_ms,
    sum(latency_sum_ms) FILTER (WHERE assigned_group <> 'control')
        / nullif(sum(latency_n) FILTER (WHERE assigned_group <> 'control'), 0) AS treatment_avg_latency_ms
FROM (
    SELECT r.*, headgate_group(r.arm, r.version, t.challenger) AS assigned_group
    FROM rollups r LEFT JOIN rollouts t ON t.id = r.rollout_id
    WHERE r.rollout_id <> ''
) r GROUP BY 1, 2
        $view$, span[1], span[2]);
    END LOOP;
END $do$;

CREATE FUNCTION get_ab_test_summary(test_id text) RETURNS TABLE (
    assigned_group text, samples bigint, errors bigint, avg_confidence float8, avg_latency_ms float8,
    stddev_latency_ms float8, outcomes bigint, accuracy float8, brier_score float8,
    agreement_rate float8, avg_confidence_delta float8, avg_latency_delta_ms float8
) LANGUAGE sql STABLE AS $$
    SELECT headgate_group(r.arm, r.version, t.challenger),
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

-- ln n!, by Stirling's series from 16 on (Abramowitz & Stegun 1964, 6.1.41); exact to 1e-12.
CREATE OR REPLACE FUNCTION headgate_log_factorial(n bigint) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    product float8 := 1;
    x float8 := n;
BEGIN
    IF n < 16 THEN
        FOR factor IN 2..n LOOP
            product := product * factor;
        END LOOP;
        RETURN ln(product);
    END IF;
    RETURN (x + 0.5) * ln(x) - x + 0.5 * ln(2 * pi()) + 1 / (12 * x) - 1 / (360 * x ^ 3) + 1 / (1260 * x ^ 5);
END $$;

-- Exact two-sided binomial test, twice the smaller tail (Clopper & Pearson 1934): the chance of a count at least as far out.
-- `share` is 0-1; NULL without trials. For one look: under repeated looks it is headgate's own sequential test that counts.
CREATE OR REPLACE FUNCTION headgate_binomial_p(hits bigint, trials bigint, share float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    upper boolean := hits > trials * share;
    k float8 := CASE WHEN upper THEN hits ELSE trials - hits END;
    n float8 := trials;
    p float8 := CASE WHEN upper THEN share ELSE 1 - share END;
    term float8 := 1;
    total float8 := 1;
    log_first float8;
BEGIN
    IF trials <= 0 OR NOT share BETWEEN 0 AND 1 THEN
        RETURN NULL;
    END IF;
    IF share IN (0, 1) THEN
        RETURN CASE WHEN hits = trials * share THEN 1 ELSE 0 END;
    END IF;
    log_first := headgate_log_factorial(trials) - headgate_log_factorial(k::bigint)
        - headgate_log_factorial((n - k)::bigint) + k * ln(p) + (n - k) * ln(1 - p);
    WHILE k < n LOOP
        term := term * (n - k) / (k + 1) * p / (1 - p);
        total := total + term;
        k := k + 1;
        EXIT WHEN term < total * 1e-17;
    END LOOP;
    RETURN CASE WHEN log_first + ln(total) < -700 THEN 0 ELSE least(1, 2 * exp(log_first + ln(total))) END;
END $$;

-- Only the newest step is compared: over several weights there is no one target. Answers in a failed challenger's place and in
-- excluded segments were not the split's choice. What the split aims at is the weight, less the hold-back.
-- delta counts answers, as the documents say. A deviation of 0.02 alone is a coin's play at small numbers, and one busy user is
-- many answers; so `alert` also wants that the keys (users, entities, requests), which are what is split, say so: p < 0.001.
CREATE FUNCTION verify_traffic_split(test_id text, hours_back integer DEFAULT 1) RETURNS TABLE (
    target_split float8, actual_split float8, delta float8, control_count bigint, treatment_count bigint,
    within_tolerance boolean, control_keys bigint, treatment_keys bigint, p_value float8, alert boolean
) LANGUAGE sql STABLE AS $$
    WITH keyed AS (
        SELECT p.key, p.version = t.challenger AS treated, count(*) AS answers
        FROM rollouts t JOIN predictions p ON p.rollout_id = t.id AND p.arm <> 'shadow'
            AND p.reason NOT IN ('fallback', 'excluded') AND p.version IN (t.champion, t.challenger)
            AND p.time >= greatest(t.evidence_since, now() - make_interval(hours => verify_traffic_split.hours_back))
        WHERE t.id = verify_traffic_split.test_id GROUP BY 1, 2
    ), counted AS (
        SELECT least(t.weight_percent, 100 - coalesce((t.state->'spec'->'watch'->>'holdback')::float8, 0)) / 100
                AS target,
            coalesce(sum(k.answers) FILTER (WHERE NOT k.treated), 0)::bigint AS control,
            coalesce(sum(k.answers) FILTER (WHERE k.treated), 0)::bigint AS treatment,
            count(*) FILTER (WHERE NOT k.treated) AS control_keys,
            count(*) FILTER (WHERE k.treated) AS treatment_keys
        FROM rollouts t LEFT JOIN keyed k ON true
        WHERE t.id = verify_traffic_split.test_id GROUP BY t.id
    ), shared AS (
        SELECT *, treatment::float8 / nullif(control + treatment, 0) AS actual,
            headgate_binomial_p(treatment_keys, control_keys + treatment_keys, target) AS p
        FROM counted
    )
    SELECT target, actual, abs(actual - target), control, treatment, abs(actual - target) <= 0.02,
        control_keys, treatment_keys, p, coalesce(abs(actual - target) > 0.02 AND p < 0.001, false)
    FROM shared
$$;

-- One row per group and value of a segment (`symbol`, `country` …), from the log itself.
CREATE OR REPLACE FUNCTION get_ab_test_breakdown(
    test_id text, dimension text DEFAULT 'symbol', hours_back integer DEFAULT 24
) RETURNS TABLE (
    value text, assigned_group text, samples bigint, errors bigint, outcomes bigint, accuracy float8,
    avg_confidence float8, avg_latency_ms float8, agreement_rate float8
) LANGUAGE sql STABLE AS $$
    SELECT p.segment->>get_ab_test_breakdown.dimension, headgate_group(p.arm, p.version, t.challenger),
        count(*), count(p.error), count(p.label),
        avg((p.label = p.prediction)::int) FILTER (WHERE p.label IS NOT NULL AND p.prediction IS NOT NULL),
        avg(p.confidence), avg(p.latency_ms), avg(p.agrees::int)
    FROM rollouts t JOIN predictions p ON p.rollout_id = t.id
        AND p.time >= now() - make_interval(hours => get_ab_test_breakdown.hours_back)
    WHERE t.id = get_ab_test_breakdown.test_id GROUP BY 1, 2 ORDER BY 1, 2
$$;

COMMENT ON VIEW ab_test_configs IS 'Every rollout as an A/B test of the documents; traffic_split is 0.0-1.0.';
COMMENT ON VIEW ab_test_results IS 'Every logged answer of a rollout, beside the other model''s in shadow mode.';
COMMENT ON VIEW ab_test_metrics_hourly IS 'Sums of the rollups by hour (UTC).';
COMMENT ON VIEW ab_test_metrics_daily IS 'Sums of the rollups by day (UTC).';

COMMIT;
