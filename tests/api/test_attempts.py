"""Wrong keys: how many an address may show, and what is remembered of them."""

import structlog

from api.limits import FAILURES_MAX, WINDOW_S, FailureLimit, source_of
from outlay.apikey import new_key

A1 = "/api/v1/external-agents/a1"


def test_too_many_wrong_keys_are_told_to_wait(keyed, assert_problem):
    """And counted; a right key from the same address is served all the while."""
    for _ in range(FAILURES_MAX):
        assert_problem(keyed.ask(new_key(), f"{A1}/budget"), 401, "unauthorized")
    with structlog.testing.capture_logs() as lines:
        answer = keyed.ask(new_key(), f"{A1}/budget")
        assert_problem(answer, 429, "too-many-attempts")
        assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S
        assert_problem(keyed.ask("nonsense", f"{A1}/budget"), 429, "too-many-attempts")
    assert [line for line in lines if line["log_level"] != "debug"] == []
    assert keyed.ask(keyed.key["acme", "viewer"], f"{A1}/budget").status_code == 200
    # Whoever shows no key tries none.
    assert_problem(keyed.ask(None, f"{A1}/budget"), 401, "unauthorized")
    text = keyed.ask(None, "/metrics").text
    assert f'outlay_api_auth_failures_total{{reason="unknown"}} {FAILURES_MAX + 1}.0' in text
    assert 'outlay_api_auth_failures_total{reason="malformed"} 1.0' in text
    assert 'outlay_api_auth_failures_total{reason="missing"} 1.0' in text


def test_the_limit_is_by_address_and_window():
    """The wait ends with the window that the first failure began."""
    now = [0.0]
    limit = FailureLimit(failures_max=2, window_s=60, clock=lambda: now[0])
    assert [limit.failed("10.0.0.1") for _ in range(2)] == [None, None]
    now[0] = 45.5
    assert limit.failed("10.0.0.1") == 15
    assert limit.failed("10.0.0.2") is None
    now[0] = 59.9
    assert limit.failed("10.0.0.1") == 1
    now[0] = 60.0
    assert [limit.failed("10.0.0.1") for _ in range(3)] == [None, None, 60]


def test_the_limits_memory_is_bounded():
    """The address that failed longest ago is forgotten first."""
    limit = FailureLimit(failures_max=1, addresses_max=3)
    for host in (1, 2, 3, 1, 4):
        limit.failed(f"10.0.0.{host}")
    assert len(limit) == 3
    assert limit.failed("10.0.0.1") is not None
    assert limit.failed("10.0.0.2") is None


def test_addresses_of_one_network_count_as_one():
    """Who has an IPv6 address has 2 to the 64th of them."""
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert source_of("2001:db8:0:1::1") != source_of("2001:db8::1")
    assert source_of("::ffff:10.0.0.1") == source_of("10.0.0.1") == "10.0.0.1"
    assert source_of("fe80::1%eth0") == "fe80::/64"
    assert source_of(None) == source_of("testclient") == "unknown"
