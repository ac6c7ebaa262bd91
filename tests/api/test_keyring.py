"""The keyring: how a running API follows the file of keys."""

import os
import threading
import time

import pytest
import structlog

from api.keys import Keyring
from outlay.apikey import new_key
from outlay.keyfile import KeyFile, KeyFileError


@pytest.fixture
def keys(tmp_path):
    """A file of keys that is not there yet."""
    return KeyFile(tmp_path / "keys.json")


def test_a_key_is_found_by_itself_alone(keys):
    """Revoked ones are found, too: it is for the asker to refuse them."""
    made, key = keys.create("a", "acme", ("viewer",))
    ring = Keyring(keys.path)
    assert ring.find(key) == made
    assert ring.find(new_key()) is None
    assert ring.find(made.digest) is None
    assert (ring.empty, ring.is_in_force(made.id)) == (False, True)
    keys.revoke("a")
    ring.check()
    assert not ring.find(key).in_force
    assert (ring.empty, ring.is_in_force(made.id)) == (True, False)


def wait_until(condition):
    """At most five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_running_ring_follows_its_file(keys):
    """Made, revoked and taken away, without being asked; its thread ends with it."""
    before = threading.active_count()
    with Keyring(keys.path, check_interval_s=0.01) as ring:
        made, key = keys.create("a", "acme", ("viewer",))
        wait_until(lambda: ring.find(key) is not None)
        keys.revoke("a")
        wait_until(lambda: not ring.is_in_force(made.id))
        _, key = keys.create("b", "acme", ("viewer",))
        wait_until(lambda: ring.find(key) is not None)
        keys.path.unlink()
        wait_until(lambda: ring.find(key) is None)
    assert threading.active_count() == before


def test_every_change_is_seen(keys):
    """Also one that leaves size and time as they were."""
    ring = Keyring(keys.path)
    for n in range(20):
        made, key = keys.create(f"k{n:02d}", None, ("viewer",))
        os.utime(keys.path, ns=(1, 1))
        ring.check()
        assert ring.find(key) == made
        other = KeyFile(keys.path.with_name("other.json"))
        _, other_key = other.create(f"k{n:02d}", None, ("viewer",))
        assert ring.find(other_key) is None
        os.utime(other.path, ns=(1, 1))
        other.path.replace(keys.path)
        ring.check()
        assert ring.find(other_key) is not None
        keys.path.unlink()
        ring.check()


def test_a_file_is_read_only_when_it_has_changed(keys, monkeypatch):
    """Looking costs a `stat`."""
    keys.create("a", None, ("admin",))
    ring, reads = Keyring(keys.path), []
    monkeypatch.setattr(ring, "_read", lambda: reads.append(1) or {})
    for _ in range(5):
        ring.check()
    assert reads == []
    keys.create("b", None, ("admin",))
    ring.check()
    ring.check()
    assert reads == [1]


def test_a_broken_file_leaves_the_known_keys_in_force(keys):
    """It is logged once, not each second; what is mended is read."""
    _, key = keys.create("a", None, ("admin",))
    good = keys.path.read_bytes()
    ring = Keyring(keys.path)
    with structlog.testing.capture_logs() as lines:
        keys.path.write_text("{")
        ring.check()
        ring.check()
        assert ring.find(key) is not None
        keys.path.write_bytes(good.replace(b'"admin"', b'"viewer"'))
        ring.check()
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert ring.find(key).roles == ("viewer",)


def test_a_ring_of_a_broken_file_is_not_made(keys):
    """The API must not begin by guessing."""
    keys.path.write_text("{")
    with pytest.raises(KeyFileError):
        Keyring(keys.path)
