"""Numbered migrations of the ClickHouse schema: `schemas/clickhouse/0001_usage.sql` and on.

Each file is applied once, in the order of its number, and never edited afterwards; its statements
must be repeatable (`IF NOT EXISTS`), since a process may die between a statement and the note that
the file was applied, and since two processes may migrate at the same time.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from streams.clickhouse_errors import HistoryRefused

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_COMMENT = re.compile(r"--[^\n]*")

_APPLIED = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree -- two processes may note the same file
ORDER BY (version, checksum)
"""


class MigrationChanged(HistoryRefused):
    """A file that has been applied is not the same any more; write a new one in its place."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and its statements, without comments."""

    version: int
    name: str
    statements: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """SHA-256 of the statements; comments and blank space do not count."""
        text = ";".join(" ".join(statement.split()) for statement in self.statements)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def parse(cls, name: str, text: str) -> Migration:
        """The migration in a file. `--` and `;` at a line's end may not stand in a literal.

        Raises:
            ValueError: not a name like `0001_usage.sql`, or a file without statements.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"not a migration's name: {name}, write 0001_usage.sql")
        parts = re.split(r";[ \t]*(?:\n|$)", _COMMENT.sub("", text))
        statements = tuple(part.strip() for part in parts if part.strip())
        if not statements:
            raise ValueError(f"{name} holds no statement")
        return cls(int(match[1]), name, statements)


def load_migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of a folder (the project's own by default), in order.

    Raises:
        ValueError: a bad file, or a number that is used twice or left out.
    """
    folder = files("schemas").joinpath("clickhouse") if folder is None else folder
    sql = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    found = sorted(
        (Migration.parse(entry.name, entry.read_text("utf-8")) for entry in sql),
        key=lambda migration: migration.version,
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are numbered 0001, 0002, … without a gap")
    return found


def migrate(client: Any, migrations: list[Migration] | None = None) -> list[str]:
    """Bring the client's database up to date; the names of the files that were applied now.

    Files that a newer version of this program has applied are left alone.

    Raises:
        MigrationChanged: an applied file has other statements now; nothing is applied then.
    """
    migrations = load_migrations() if migrations is None else migrations
    client.command(_COMMENT.sub("", _APPLIED))
    rows = client.query("SELECT version, name, checksum FROM schema_migrations FINAL").result_rows
    applied = {(version, checksum) for version, _, checksum in rows}
    versions = {version: name for version, name, _ in rows}
    for migration in migrations:
        known = (migration.version, migration.checksum) in applied
        if migration.version in versions and not known:
            raise MigrationChanged(
                f"{versions[migration.version]} was applied to this database and has been changed"
                f" since (now {migration.name}): restore it, and put the change in a new file"
            )
    pending = [migration for migration in migrations if migration.version not in versions]
    for migration in pending:
        for statement in migration.statements:
            client.command(statement)
        client.command(
            "INSERT INTO schema_migrations SELECT"
            " {version:UInt32}, {name:String}, {checksum:String}, now64(3, 'UTC')",
            parameters={
                "version": migration.version,
                "name": migration.name,
                "checksum": migration.checksum,
            },
        )
    return [migration.name for migration in pending]
