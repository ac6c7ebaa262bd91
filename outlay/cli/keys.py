"""`outlay keys`: the keys that the API lets in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast

import typer

from outlay.apikey import ROLES, ApiKey, Role
from outlay.cli.outcome import carry_out
from outlay.keyfile import FILE_NAME, KeyFile

app = typer.Typer(help="Keys of the API: make them, list them, revoke them.")

File = Annotated[
    Path,
    typer.Option(
        "--keys-file", envvar="OUTLAY_API_KEYS_FILE", help="The API's file of keys, with digests."
    ),
]
DEFAULT_FILE = Path(".outlay") / FILE_NAME
"""Where `outlay up` has its keys by default."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for; lists and the audit say it.")],
    role: Annotated[
        list[str], typer.Option(help=f"What it may do: {', '.join(ROLES)}; give it again for more.")
    ],
    organization: Annotated[
        str | None, typer.Option(help="The organization that it sees; no other is there for it.")
    ] = None,
    all_organizations: Annotated[
        bool, typer.Option("--all-organizations", help="Let it see every organization.")
    ] = False,
    keys_file: File = DEFAULT_FILE,
) -> None:
    """Make a key and print it, the only time; running APIs know it within about a second."""
    carry_out(lambda: run_create(keys_file, name, organization, all_organizations, role))


@app.command("list")
def list_(keys_file: File = DEFAULT_FILE) -> None:
    """List all keys, revoked ones with them; none can be shown again."""
    carry_out(lambda: run_list(keys_file))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name.")],
    keys_file: File = DEFAULT_FILE,
) -> None:
    """Revoke a key; running APIs refuse it within about a second."""
    carry_out(lambda: run_revoke(keys_file, key))


def run_create(
    keys_file: Path,
    name: str,
    organization_id: str | None,
    all_organizations: bool,
    roles: Sequence[str],
) -> int:
    """Make a key; the exit code. The key alone goes to standard output.

    Raises:
        ValueError: a name, an organization or a role that cannot be.
        OSError: the file cannot be read or written.
    """
    if (organization_id is None) != all_organizations:
        raise ValueError("give either --organization or --all-organizations")
    given = cast(tuple[Role, ...], tuple(roles))  # looked at where the key is made
    made, key = KeyFile(keys_file).create(name, organization_id, given)
    print(key)
    print(f"made {made.id} ({made.name}) in {keys_file}; it is shown this once", file=sys.stderr)
    return 0


def run_list(keys_file: Path) -> int:
    """Print a line for each key; the exit code."""
    keys = KeyFile(keys_file).read()
    if not keys:
        print(f"no keys in {keys_file}", file=sys.stderr)
        return 0
    header = ("ID", "NAME", "ORGANIZATION", "ROLES", "CREATED", "REVOKED")
    rows = [header, *map(_row, keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def run_revoke(keys_file: Path, id_or_name: str) -> int:
    """Revoke a key; the exit code.

    Raises:
        KeyFileError: no key in force is called so.
    """
    revoked = KeyFile(keys_file).revoke(id_or_name)
    print(f"revoked {revoked.id} ({revoked.name})")
    return 0


def _row(key: ApiKey) -> tuple[str, ...]:
    organization = "(all)" if key.organization_id is None else ascii(key.organization_id)[1:-1]
    revoked = "" if key.revoked_at is None else _time(key.revoked_at)
    return key.id, key.name, organization, ",".join(key.roles), _time(key.created_at), revoked


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
