-- One row for each usage record that counts, as the stream read it.
--
-- Engine: ReplacingMergeTree. The sink inserts first and commits its Kafka offsets afterwards, so
-- a crash or a replay inserts rows a second time; rows with an equal sorting key then become one,
-- of which the copy with the highest kafka_offset stays. A merge may come late or never, so
-- nobody reads this table: the view `usage` below says FINAL, which is exact before merges, too.
-- A materialized roll-up would see the inserts and not the merges, and count replays twice.
--
-- Sorting key: what identifies a record (organization, agent, id), and nothing that two copies
-- of one record could differ in; and its day before the id, since reports ask for days. toDate32,
-- because Date ends in 2149 and begins in 1970. toUInt128, because UUIDs sort by their second
-- half, and ids of version 7 are in the order of time only as numbers.
-- The month follows from the day, so that copies always meet in one partition.
--
-- Absent ids are empty strings (an id has at least one character), not NULL.
CREATE TABLE IF NOT EXISTS usage_rows
(
    id UUID,
    occurred_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    organization_id LowCardinality(String),
    team_id LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    agent_id String CODEC(ZSTD(1)),
    provider LowCardinality(String),
    model LowCardinality(String),
    input_tokens Int64 CODEC(T64, ZSTD(1)),   -- corrections may be negative
    output_tokens Int64 CODEC(T64, ZSTD(1)),
    executions Int64 CODEC(T64, ZSTD(1)),
    -- Inserts give integer nano-dollars and the same 64 bits are the decimal: exact, and a third
    -- of the time that Python's decimals take.
    cost_nano Int64 EPHEMERAL,
    cost_usd Decimal(18, 9) DEFAULT reinterpret(cost_nano, 'Decimal(18, 9)'),
    success Bool,
    source String CODEC(ZSTD(1)),
    sequence Int64 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String),
    metadata String CODEC(ZSTD(3)),           -- a JSON object
    late Bool,                                -- its day's total was forgotten when it arrived
    kafka_partition Int32,
    kafka_offset Int64 CODEC(Delta, ZSTD(1)),
    kafka_index Int32,                        -- its place among those of its message that count
    kafka_timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(kafka_offset)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (organization_id, toDate32(occurred_at), agent_id, toUInt128(id))
-- One insert a second can afford to be on disk before its offsets are committed.
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every record once. All reports read this.
CREATE VIEW IF NOT EXISTS usage AS SELECT * FROM usage_rows FINAL;
