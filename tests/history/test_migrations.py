"""Numbered migrations: once each, in order, and never changed."""

import asyncio
from pathlib import Path

import pytest

from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryRefused
from streams.clickhouse_migrations import Migration, MigrationChanged, load_migrations, migrate

MIGRATIONS = ["0001_usage.sql", "0002_audit.sql", "0003_alerts.sql"]


def test_a_second_run_applies_nothing(with_clickhouse):
    """Every start migrates; only the first finds something to do, also after a restart."""
    names = [migration.name for migration in load_migrations()]

    async def tables(clickhouse):
        again = await clickhouse.migrate()
        rows = await clickhouse.run(lambda client: client.query("SHOW TABLES").result_rows)
        return again, {name for (name,) in rows}

    views = {"usage", "audit", "alerts", "alert_deliveries"}
    tables_of = {"usage_rows", "audit_rows", "alert_rows", "alert_delivery_rows"}
    made = {"schema_migrations"} | views | tables_of
    assert with_clickhouse(tables) == ([], made)
    assert with_clickhouse(tables) == ([], made)
    assert names == MIGRATIONS


def test_a_changed_file_is_refused_and_nothing_else_applied(with_clickhouse):
    """An edited migration would leave two databases that claim the same version and differ."""
    first = Migration.parse("0001_first.sql", "CREATE TABLE IF NOT EXISTS x (a Int8) ENGINE=Log")
    edited = Migration.parse("0001_first.sql", "CREATE TABLE IF NOT EXISTS x (a Int9) ENGINE=Log")
    second = Migration.parse("0002_more.sql", "CREATE TABLE IF NOT EXISTS y (a Int8) ENGINE=Log")

    async def work(clickhouse):
        fresh = "CREATE DATABASE fresh"
        await clickhouse.run(lambda client: client.command(fresh))

        def migrations(client):
            client.database = "fresh"
            applied = [migrate(client, [first])]
            with pytest.raises(MigrationChanged, match=r"0001_first\.sql .* changed since"):
                migrate(client, [edited, second])
            applied.append(migrate(client, [first, second]))
            applied.append(migrate(client, [first]))  # an older program beside a newer database
            return applied

        return await clickhouse.run(migrations)

    assert with_clickhouse(work) == [["0001_first.sql"], ["0002_more.sql"], []]


def test_a_crash_between_statement_and_note_is_made_good(with_clickhouse):
    """Statements are repeatable, so an applied file that was not noted is applied again."""

    async def work(clickhouse):
        forget = "ALTER TABLE schema_migrations DELETE WHERE 1 SETTINGS mutations_sync = 2"
        await clickhouse.run(lambda client: client.command(forget))
        return await clickhouse.migrate(), await clickhouse.migrate()

    assert with_clickhouse(work) == (MIGRATIONS, [])


def test_two_connections_may_migrate_at_the_same_time(settings):
    """The sinks of usage and audit start together, in one process or in several."""

    async def work():
        both = [ClickHouse(settings), ClickHouse(settings)]
        await asyncio.gather(*(clickhouse.migrate() for clickhouse in both))
        again = await both[0].migrate()
        for clickhouse in both:
            await clickhouse.close()
        return again

    assert asyncio.run(work()) == []


def test_comments_and_space_do_not_change_a_migration():
    """Only what ClickHouse is told counts."""
    plain = Migration.parse("0001_x.sql", "SELECT 1;\nSELECT 2;\n")
    dressed = Migration.parse("0001_x.sql", "-- why; so\nSELECT  1; \n\nSELECT 2 -- two\n")
    assert plain.statements == ("SELECT 1", "SELECT 2")
    assert dressed.checksum == plain.checksum


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["1_x.sql"], "not a migration's name"),
        (["0001_x.sql", "0001_y.sql"], "without a gap"),
        (["0001_x.sql", "0003_y.sql"], "without a gap"),
    ],
)
def test_misnumbered_files_are_refused(tmp_path: Path, names, problem):
    """Two branches that both add 0002 must not merge unseen."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(ValueError, match=problem):
        load_migrations(tmp_path)


def test_a_changed_migration_is_no_reason_to_wait():
    """The sink ends on it, instead of retrying for ever."""
    assert issubclass(MigrationChanged, HistoryRefused)
