"""Rules without I/O: retries, addresses, ids that were taken, configurations, text."""

import ipaddress
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.alert_config import (
    AlertConfig,
    AlertConfigRecord,
    encode_config_record,
    requested_alerts,
)
from schemas.settings import Settings
from streams.alerting.directory import DEFAULT, Directory
from streams.alerting.incoming import Incoming
from streams.alerting.partition_state import SCOPE_AGE_MS_MAX, WAIT_MS_MAX, PartitionState
from streams.alerting.records import decode_page, delivery_id
from streams.alerting.retrying import (
    RETRY_AFTER_MS_MAX,
    Limits,
    Outcome,
    next_attempt_ms,
    retry_after_ms,
)
from streams.alerting.taken import PAGE_IDS_MAX, PAGES_MAX, Taken
from streams.alerting.targets import Allowed, TargetRefused, check_address
from streams.alerting.text import shown
from tests.alerts.alert_world import MemoryConfigs, alert

LIMITS = Limits(12, 900_000, 21_600_000)


@given(st.integers(1, 100), st.integers(0, 10**9), st.integers(0, 10**8), st.integers())
def test_a_retry_is_within_its_bounds(attempt, asked_ms, age_ms, seed):
    """At least half the first pause, at most what is bounded, never after the last attempt."""
    outcome = Outcome("retry", retry_after_ms=asked_ms)
    uniform = random.Random(seed).uniform
    at = next_attempt_ms(outcome, attempt, 0, age_ms, LIMITS, uniform)
    if attempt >= LIMITS.attempts_max:
        assert at is None
    elif at is not None:
        assert 2_500 <= at - age_ms <= max(LIMITS.pause_ms_max, RETRY_AFTER_MS_MAX)
        assert at - age_ms >= min(asked_ms, RETRY_AFTER_MS_MAX)
        assert at <= LIMITS.age_ms_max
    else:
        assert age_ms + RETRY_AFTER_MS_MAX > LIMITS.age_ms_max


@pytest.mark.parametrize("verdict", ["delivered", "failed", "gone"])
def test_nothing_else_is_tried_again(verdict):
    """Whatever the receiver asks for."""
    outcome = Outcome(verdict, retry_after_ms=1)
    assert next_attempt_ms(outcome, 1, 0, 0, LIMITS, random.uniform) is None


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        ("0", 0),
        (" 7 ", 7_000),
        ("9" * 5_000, RETRY_AFTER_MS_MAX),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:09 GMT", 8_000),
        ("Wed, 31 Dec 1969 00:00:09 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MS_MAX),
        ("٣", None),
        (f"Thu, 01 Jan {'9' * 30} 00:00:09 GMT", None),
        ("Thu, 01 Jan 1970 00:00:09 +99999999999999", None),
    ],
)
def test_retry_after(value, wanted):
    """Seconds or a date, never more than the bound, never before now."""
    found = retry_after_ms(value, 1_000)
    assert found == wanted


REFUSED = """
0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.0.1 169.254.169.254
172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 203.0.113.9 224.0.0.1
239.1.1.1 240.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
::127.0.0.1 fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 2001::1
2002:7f00:1:: 2002:a9fe:a9fe:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1
3fff::1 fec0::1
"""
TAKEN = "1.1.1.1 8.8.8.8 172.32.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808"


@pytest.mark.parametrize("address", REFUSED.split())
def test_addresses_that_no_webhook_goes_to(address):
    """Private, loopback, link-local, multicast, reserved, metadata, and forms that hold one."""
    with pytest.raises(TargetRefused):
        check_address("h", ipaddress.ip_address(address), Allowed())


@pytest.mark.parametrize("address", TAKEN.split())
def test_addresses_that_a_webhook_may_go_to(address):
    """Those that the internet routes to."""
    check_address("h", ipaddress.ip_address(address), Allowed())


def test_the_setting_allows_networks_and_hosts():
    """And nothing beside them; a mapped address is the one that it holds."""
    settings = Settings(alert_private_targets="10.0.0.0/8, ::1, receiver.internal")
    allowed = Allowed.parse(settings.private_targets)
    for host, address in (
        ("h", "10.1.2.3"),
        ("h", "::ffff:10.1.2.3"),
        ("h", "::1"),
        ("Receiver.Internal", "192.168.0.1"),
    ):
        check_address(host, ipaddress.ip_address(address), allowed)
    for host, address in (("h", "127.0.0.1"), ("other.internal", "192.168.0.1")):
        with pytest.raises(TargetRefused):
            check_address(host, ipaddress.ip_address(address), allowed)


@pytest.mark.parametrize("value", ["10.0.0.1/8", "a b", "http://x", "300.0.0.1", "*"])
def test_a_setting_that_is_neither_network_nor_host_is_refused(value):
    """When the process starts."""
    with pytest.raises(ValueError, match="neither a network nor a host"):
        Settings(alert_private_targets=value)


def test_the_password_is_in_no_text_of_the_settings():
    """Neither in their representation, nor in the README's table."""
    assert "hunter2" not in repr(Settings(alert_smtp_password="hunter2"))


@given(st.integers(1, 3 * PAGE_IDS_MAX), st.integers(1, 200))
def test_ids_survive_a_restart(count, batch):
    """From the last record of each key, whatever batches wrote them."""
    taken, records = Taken(), {}
    for number in range(count):
        taken.add(f"alt_{number}")
        if number % batch == 0:
            records |= taken.records()
    records |= taken.records()
    again = Taken()
    for value in records.values():
        again.load(decode_page(value))
    assert all(f"alt_{number}" in again for number in range(count))
    assert len(again) == count


def test_ids_are_bounded_and_the_oldest_go():
    """In memory as on the topic, and a restart knows the same ones."""
    taken, records = Taken(), {}
    count = PAGE_IDS_MAX * (PAGES_MAX + 2)
    for number in range(count):
        taken.add(f"{number}")
        if number % PAGE_IDS_MAX == PAGE_IDS_MAX - 1:
            records |= taken.records()
    again = Taken()
    for value in records.values():
        again.load(decode_page(value))
    assert len(records) == PAGES_MAX
    for one in (taken, again):
        assert len(one) == PAGE_IDS_MAX * PAGES_MAX
        assert "0" not in one
        assert str(count - 1) in one


def test_a_merged_message_has_an_id_of_its_alerts():
    """Whatever their order; others have another."""
    one, two, three = alert(), alert(), alert()
    assert delivery_id((one,)) == one.alert_id
    assert delivery_id((one, two)) == delivery_id((two, one))
    assert len({delivery_id((one, two)), delivery_id((one, three)), one.alert_id}) == 3


def test_a_tombstone_takes_a_configuration_away():
    """Then the organization's holds again, and without that the default."""
    configs = MemoryConfigs()
    own, whole = AlertConfig(cooldown_minutes=1), AlertConfig(cooldown_minutes=2)
    configs.put("organization:a/agent:b", own)
    configs.put("organization:a", whole)
    directory = configs.directory
    assert directory.effective("organization:a/agent:b", "a").config == own
    directory.apply(b"organization:a/agent:b", None)
    assert directory.effective("organization:a/agent:b", "a").config == whole
    directory.apply(b"organization:a", None)
    assert directory.effective("organization:a/agent:b", "a") == DEFAULT


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"scope":"s","version":1,"config":{}'])
def test_what_is_no_configuration_is_refused_without_its_text(value):
    """It may hold a secret."""
    with pytest.raises(ValueError, match="no alert configuration: "):
        Directory().apply(b"s", value)


def test_a_scope_that_is_long_quiet_is_forgotten():
    """Its record is taken away; one of which something is held stays."""
    configs = MemoryConfigs(**{"organization:acme": AlertConfig(webhook_url="https://h/")})
    state = PartitionState(configs.directory.effective)
    for number in range(2):
        state.take(Incoming(number, alert("organization:acme/agent:a")), 0)
    state.take(Incoming(2, alert("organization:acme/agent:b")), 0)
    state.changes()
    state.prune(SCOPE_AGE_MS_MAX + 1)
    assert state.changes() == {b"scope organization:acme/agent:b": None}
    assert list(state.scopes) == ["organization:acme/agent:a"]


def test_a_state_record_that_cannot_be_read_stops_nobody():
    """The others are taken up."""
    state = PartitionState(MemoryConfigs().directory.effective)
    state.load({b"scope a": b"{", b"\xff": b"", b"gone a": b'{"version":4}', b"new a": b"1"}, 0)
    assert state.gone == {"a": 4}


def test_nothing_waits_for_a_clock_that_was_ahead():
    """What it wrote is due as if it had been written now."""
    configs = MemoryConfigs(**{"organization:acme": AlertConfig(webhook_url="https://h/")})
    year_ms = 365 * 86_400_000
    ahead = PartitionState(configs.directory.effective)
    for number in range(2):
        ahead.take(Incoming(number, alert("organization:acme")), year_ms)
    records = {key: value for key, value in ahead.changes().items() if value is not None}
    state = PartitionState(configs.directory.effective)
    state.load(records, 0)
    assert state.due_ms("organization:acme") == 15 * 60_000
    assert [each.next_ms for each in state.pending.values()] == [WAIT_MS_MAX]


def test_a_configuration_of_a_newer_version_is_read():
    """The one before it might tell those who are not to be told any more; requests are strict."""
    config = AlertConfig(webhook_url="https://new/", cooldown_minutes=3)
    record = msgspec.to_builtins(AlertConfigRecord("organization:a", 2, config))
    record["config"]["quiet_hours"] = [22, 6]
    configs = MemoryConfigs(**{"organization:a": AlertConfig(webhook_url="https://old/")})
    configs.directory.apply(b"organization:a", msgspec.json.encode(record))
    assert configs.directory.effective("organization:a", "a").config == config
    with pytest.raises(ValueError, match="unknown field `quiet_hours`"):
        requested_alerts(record["config"])


def test_a_configuration_under_the_key_of_another_is_refused():
    """It would stay when the other's is taken away."""
    with pytest.raises(ValueError, match="no alert configuration: "):
        Directory().apply(
            b"organization:b",
            encode_config_record(AlertConfigRecord("organization:a", 1, AlertConfig())),
        )


@given(st.text(), st.integers(1, 50))
def test_text_of_others_is_short_and_printable(text, length_max):
    """Whatever it was."""
    found = shown(text, length_max)
    assert len(found) <= length_max
    assert found.isprintable()
