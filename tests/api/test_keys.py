"""Keys: their shape, and their file."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from outlay import keyfile
from outlay.apikey import KEY_PREFIX, ApiKey, digest_of, looks_like_key, new_key
from outlay.keyfile import KeyFile, KeyFileError

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path):
    """A file of keys that is not there yet."""
    return KeyFile(tmp_path / "keys.json")


def test_a_key_has_a_shape_of_its_own_and_256_random_bits():
    """Scanners find the prefix; 62 letters and digits, 43 times, are over 2 to the 256th."""
    made = {new_key() for _ in range(200)}
    assert len(made) == 200
    assert all(looks_like_key(key) for key in made)
    random = {key.removeprefix(KEY_PREFIX) for key in made}
    assert {len(part) for part in random} == {43}
    assert 62**43 >= 2**256
    assert len(set("".join(random))) == 62  # each of the alphabet is drawn
    for text in ("", "outlay_sk_", new_key()[:-1], new_key() + "x", "sk_" + "a" * 43):
        assert not looks_like_key(text)
    assert not looks_like_key(KEY_PREFIX + "é" * 43)


def test_the_file_holds_digests_and_no_keys(keys):
    """It is for its owner alone, and says all about a key but the key."""
    made, key = keys.create("gateway", "acme", ("viewer", "emitter"))
    content = keys.path.read_text()
    assert key not in content
    assert key.removeprefix(KEY_PREFIX) not in content
    assert digest_of(key) in content
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert keys.read() == (made,)
    assert (made.name, made.organization_id, made.roles) == (
        "gateway",
        "acme",
        ("viewer", "emitter"),
    )
    assert made.in_force
    assert abs((datetime.now(UTC) - made.created_at).total_seconds()) < 60


def test_the_file_stays_private_whatever_the_umask(keys):
    """And when it was readable before."""
    before = os.umask(0)
    try:
        keys.create("a", None, ("admin",))
        keys.path.chmod(0o644)
        keys.create("b", None, ("admin",))
    finally:
        os.umask(before)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.with_name("keys.json.lock").stat().st_mode) == 0o600
    assert sorted(path.name for path in keys.path.parent.iterdir()) == [
        "keys.json",
        "keys.json.lock",
    ]


def test_revoking_keeps_the_entry(keys):
    """By id or by name; a name is free again then, and an id goes before a name."""
    first, _ = keys.create("a", "acme", ("viewer",))
    assert keys.revoke("a").id == first.id
    second, _ = keys.create("a", "acme", ("viewer",))
    namesake, _ = keys.create(second.id, "acme", ("viewer",))
    assert keys.revoke(second.id).id == second.id
    assert [key.in_force for key in keys.read()] == [False, False, True]
    assert keys.read()[2].id == namesake.id
    with pytest.raises(KeyFileError, match=r"no key in force has the id or name 'a'"):
        keys.revoke("a")


def test_a_key_in_the_place_of_a_name_is_not_repeated(keys):
    """Somebody pastes the key: the message must not carry it into a log."""
    _, key = keys.create("a", None, ("admin",))
    with pytest.raises(KeyFileError) as refused:
        keys.revoke(key)
    assert key not in str(refused.value)
    with pytest.raises(ValueError, match="must not be a key") as refused:
        keys.create(key, None, ("admin",))
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "organization", "roles", "says"),
    [
        ("", "acme", ("viewer",), "1 to 100 printable"),
        ("x" * 101, "acme", ("viewer",), "1 to 100 printable"),
        ("\x1b[2J", "acme", ("viewer",), "1 to 100 printable"),
        ("a", "", ("viewer",), "organization_id must have 1 to 256"),
        ("a", "acme", (), "one role or more"),
        ("a", "acme", ("viewer", "root"), "there is no role 'root'"),
    ],
)
def test_keys_that_cannot_be(keys, name, organization, roles, says):
    """Are refused, and leave no file behind."""
    with pytest.raises(ValueError, match=says):
        keys.create(name, organization, roles)
    assert not keys.path.exists()


def test_two_keys_in_force_have_two_names(keys):
    """Else nobody knows which one a list means."""
    keys.create("a", "acme", ("viewer",))
    with pytest.raises(KeyFileError, match="a key in force is called 'a'"):
        keys.create("a", "globex", ("viewer",))


def test_writers_wait_for_each_other(tmp_path):
    """Twenty at once lose no key."""
    path = tmp_path / "new" / "keys.json"
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: KeyFile(path).create(f"k{n}", None, ("viewer",)), range(20)))
    assert {key.name for key in KeyFile(path).read()} == {f"k{n}" for n in range(20)}


def test_a_lock_that_somebody_keeps_is_an_error_in_the_end(keys, monkeypatch):
    """And not a command that hangs."""
    monkeypatch.setattr(keyfile, "LOCK_TIMEOUT_S", 0.1)
    with keys._locked(), pytest.raises(KeyFileError, match=r"somebody else holds .*\.lock"):
        KeyFile(keys.path).create("a", None, ("admin",))
    assert keys.read() == ()


def test_a_writer_that_dies_leaves_the_file_as_it_was(keys, monkeypatch):
    """What it had begun is not taken for the file."""
    keys.create("a", None, ("admin",))
    before = keys.path.read_bytes()

    def die(*paths):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(OSError, match="no space left"):
            keys.create("b", None, ("admin",))
    assert keys.path.read_bytes() == before
    assert len(list(keys.path.parent.iterdir())) == 2  # and the lock


def test_a_link_to_the_file_stays_a_link(keys, tmp_path):
    """As in a mounted secret."""
    link = tmp_path / "link.json"
    keys.create("a", None, ("admin",))
    link.symlink_to(keys.path)
    KeyFile(link).create("b", None, ("admin",))
    assert link.is_symlink()
    assert len(keys.read()) == 2


def test_the_first_admin_is_made_once(keys):
    """As long as any key is in force; a key for all organizations."""
    key = keys.first_admin("admin")
    assert keys.first_admin("admin") is None
    (made,) = keys.read()
    assert (made.organization_id, made.roles, made.digest) == (None, ("admin",), digest_of(key))
    keys.revoke("admin")
    assert keys.first_admin("admin") not in (None, key)


def entry(**changes):
    """A key of a file."""
    made = {
        "id": "k1", "name": "n", "organization_id": "acme", "roles": ["viewer"],
        "digest": "0" * 64, "created_at": "2026-11-21T12:00:00Z", "revoked_at": None,
    } | changes  # fmt: skip
    return {name: value for name, value in made.items() if value != "absent"}


def content(*entries, version=1):
    return json.dumps({"version": version, "keys": entries}).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"[]",
        b'{"version": 1}',
        b"[" * 100_000,
        content(version=2),
        content(entry(organization_id="absent")),  # null is all of them: it must be said
        content(entry(digest="0" * 63)),
        content(entry(digest="A" * 64)),
        content(entry(roles=[])),
        content(entry(roles=["root"])),
        content(entry(created_at="2026-11-21T12:00:00")),
        content(entry(revoked="2026-11-21T12:00:00Z")),  # a slip that would leave it in force
        content(entry(), entry(id="k2")),
        content(entry(), entry(digest="1" * 64)),
    ],
)
def test_files_that_are_not_understood_are_refused(keys, broken):
    """As a whole: half a list could miss what was revoked."""
    keys.path.write_bytes(broken)
    with pytest.raises(KeyFileError, match=r"keys\.json: (not a file of keys|two keys)"):
        keys.read()


def test_a_file_that_is_understood():
    """What the cases above differ from; null is all organizations."""
    (key,) = keyfile.parse(content(entry(organization_id=None)))
    assert key == ApiKey("k1", "n", None, ("viewer",), "0" * 64, AT)
