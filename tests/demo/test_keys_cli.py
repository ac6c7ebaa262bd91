"""`outlay keys`: a key is printed once, listed without it, and revoked."""

import os
import subprocess
import sys

import pytest

from outlay.apikey import digest_of, looks_like_key
from outlay.keyfile import KeyFile


@pytest.fixture
def keys(tmp_path):
    """Runs `outlay keys` on a file of its own, which the environment names."""

    def run(*arguments, file=tmp_path / "keys.json"):
        return subprocess.run(
            [sys.executable, "-m", "outlay.cli", "keys", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "OUTLAY_API_KEYS_FILE": str(file)},
        )

    return run


def test_a_key_is_made_listed_and_revoked(keys, tmp_path):
    """Only the key goes to standard output, for `KEY=$(outlay keys …)`; the list lacks it."""
    gateway = ("--name", "gateway", "--organization", "acme", "--role", "viewer")
    made = keys("create", *gateway, "--role", "emitter")
    assert made.returncode == 0, made.stderr
    key = made.stdout.removesuffix("\n")
    assert looks_like_key(key)
    assert key not in made.stderr
    assert "shown this once" in made.stderr
    (kept,) = KeyFile(tmp_path / "keys.json").read()
    assert (kept.digest, kept.organization_id) == (digest_of(key), "acme")
    admin = keys("create", "--name", "admin", "--all-organizations", "--role", "admin")
    assert admin.returncode == 0
    revoked = keys("revoke", "gateway")
    assert revoked.stdout == f"revoked {kept.id} (gateway)\n"
    listed = keys("list").stdout
    header, first, second = listed.splitlines()
    assert header.split() == ["ID", "NAME", "ORGANIZATION", "ROLES", "CREATED", "REVOKED"]
    assert first.split()[:4] == [kept.id, "gateway", "acme", "viewer,emitter"]
    assert len(first.split()) == 6
    assert second.split()[1:4] == ["admin", "(all)", "admin"]
    assert len(second.split()) == 5
    assert key not in listed
    assert kept.digest not in listed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--name", "a", "--role", "viewer"), "either --organization or --all-org"),
        (
            ("create", "--name", "a", "--role", "viewer", "--organization", "o",
             "--all-organizations"),
            "either --organization or --all-org",
        ),
        (("create", "--name", "a", "--all-organizations"), "Missing option '--role'"),
        (
            ("create", "--name", "a", "--all-organizations", "--role", "root"),
            "there is no role 'root', only viewer, emitter, operator, admin",
        ),
        (("revoke", "nobody"), "no key in force has the id or name 'nobody'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(keys, tmp_path, arguments, says):
    """With exit code 2, and nothing is printed for a key."""
    ended = keys(*arguments)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stdout == ""
    assert not (tmp_path / "keys.json").exists()


def test_a_file_that_is_none_is_one_line(keys, tmp_path):
    """And is left as it is."""
    (tmp_path / "keys.json").write_text("not keys")
    for arguments in (
        ("list",),
        ("create", "--name", "a", "--all-organizations", "--role", "admin"),
    ):
        ended = keys(*arguments)
        assert ended.returncode == 2
        assert "not a file of keys" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert (tmp_path / "keys.json").read_text() == "not keys"


def test_no_keys_are_said_to_be_none(keys, tmp_path):
    """The file that is looked at is named."""
    ended = keys("list")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert str(tmp_path / "keys.json") in ended.stderr
