-- One row for each alert, as the alerts topic says it.
--
-- Engine: ReplacingMergeTree, for the same reason as usage_rows: the sink may insert a row again,
-- and the stream may say an alert again after a crash, with a later time. Of equal ones the copy
-- that was published first stays (its offset is the smallest, and so `precedence` the largest), so
-- that a repetition changes no answer. Nobody reads this table: the view `alerts` below says FINAL.
--
-- Sorting key: the alert's id, and before it what follows from the id, since that is made of them:
-- organization and window. Not the time of detection, in which copies may differ; and neither may
-- the partition depend on it, so that copies always meet in one: it is the window's month.
--
-- An alert is kept as the JSON that was published: a newer version of this program may give it
-- fields that this one does not know. The columns are what is asked for, and absent ones are empty.
CREATE TABLE IF NOT EXISTS alert_rows
(
    organization_id LowCardinality(String),
    window LowCardinality(String),
    alert_id String CODEC(ZSTD(1)),
    detected_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    event LowCardinality(String),
    scope String CODEC(ZSTD(1)),
    limit_kind LowCardinality(String),
    threshold LowCardinality(String),
    test Bool,
    alert String CODEC(ZSTD(3)),
    kafka_partition Int32,
    kafka_offset Int64 CODEC(Delta, ZSTD(1)),
    precedence Int64 MATERIALIZED -kafka_offset,
    ingested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY substring(window, 1, 7)
ORDER BY (organization_id, window, alert_id)
-- An insert can afford to be on disk before its offsets are committed.
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every alert once. The API reads this.
CREATE VIEW IF NOT EXISTS alerts AS SELECT * FROM alert_rows FINAL;

-- One row for each attempt to deliver alerts through one channel.
--
-- Sorting key: what identifies an attempt: its time, what it was to deliver, through which channel,
-- and its number. Time and number both: what a crash made twice was made at two times, and what is
-- sent again on demand may be numbered from one again. Two messages in which all of these are
-- equal are one attempt that was told twice.
CREATE TABLE IF NOT EXISTS alert_delivery_rows
(
    organization_id LowCardinality(String),
    attempted_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    delivery_id String CODEC(ZSTD(1)),
    channel LowCardinality(String),
    attempt Int32,
    alert_ids Array(String) CODEC(ZSTD(1)),
    scope String CODEC(ZSTD(1)),
    event LowCardinality(String),
    target String CODEC(ZSTD(1)),
    status LowCardinality(String),
    code Int16,                               -- 0: there was no answer
    reason String CODEC(ZSTD(1)),
    duration_ms Int64 CODEC(T64, ZSTD(1)),
    next_attempt_at DateTime64(3, 'UTC'),     -- 1970: there is none
    test Bool,
    kafka_partition Int32,
    kafka_offset Int64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(kafka_offset)
PARTITION BY toYYYYMM(attempted_at)
ORDER BY (organization_id, attempted_at, delivery_id, channel, attempt)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every attempt once. The API reads this.
CREATE VIEW IF NOT EXISTS alert_deliveries AS SELECT * FROM alert_delivery_rows FINAL;

-- The audit tells what becomes of alert configurations, too: the JSON that was published, which
-- holds no secret, empty where the scope has none of its own. A view knows the columns that there
-- were when it was made.
ALTER TABLE audit_rows
    ADD COLUMN IF NOT EXISTS alerts_before String CODEC(ZSTD(3)) AFTER budget_after,
    ADD COLUMN IF NOT EXISTS alerts_after String CODEC(ZSTD(3)) AFTER alerts_before;

CREATE OR REPLACE VIEW audit AS SELECT * FROM audit_rows FINAL;
