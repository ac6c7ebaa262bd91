-- One row for each request to change a budget that was decided, as the audit topic says it.
--
-- Engine: ReplacingMergeTree, for the same reason as usage_rows: the sink may insert a row again,
-- and the stream may publish a record again. Of equal ones the copy that was published last stays.
-- Nobody reads this table: the view `audit` below says FINAL.
--
-- Sorting key: what identifies a request, its place on the budgets topic, and before it what is
-- asked for, its organization and the time of its message. All of these are the request's own, so
-- two copies never differ in them. The time tells apart what stood at one place of a topic that
-- was made anew.
--
-- A budget is kept as the JSON that was published, empty where there is none: a newer version of
-- this program may give it fields that this one does not know.
CREATE TABLE IF NOT EXISTS audit_rows
(
    organization_id LowCardinality(String),
    requested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    request_partition Int32,
    request_offset Int64 CODEC(Delta, ZSTD(1)),
    request_id String CODEC(ZSTD(1)),
    requested_by String CODEC(ZSTD(1)),
    scope String CODEC(ZSTD(1)),
    action LowCardinality(String),
    accepted Bool,
    reason String CODEC(ZSTD(1)),
    version Int64,
    budget_before String CODEC(ZSTD(3)),
    budget_after String CODEC(ZSTD(3)),
    kafka_partition Int32,
    kafka_offset Int64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(kafka_offset)
PARTITION BY toYYYYMM(requested_at)
ORDER BY (organization_id, requested_at, request_partition, request_offset)
-- An insert can afford to be on disk before its offsets are committed.
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every decided request once. The API reads this.
CREATE VIEW IF NOT EXISTS audit AS SELECT * FROM audit_rows FINAL;
