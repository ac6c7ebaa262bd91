"""Each request has an id, and one line in the log: in the answer, in problems, and in all lines."""

import io
import re

import pytest
import structlog
from structlog.processors import LogfmtRenderer

from api.correlation import REQUEST_ID_LENGTH_MAX, request_id_of
from api.logs import configure_logging, logfmt, one_line
from outlay.apikey import new_key
from outlay.budget import Budget
from outlay.scope import Scope
from streams.clickhouse_errors import HistoryAway
from tests.api.live_api import EventClient, put, run_scenario
from tests.api.usage_parts import eventually

PATH = "/api/v1/external-agents/secret-agent/budget"
TEMPLATE = "/api/v1/external-agents/{external_agent_id}/budget"
SPEND = "/api/v1/reports/spend"
MONTH = {"from": "2026-11-01", "to": "2026-12-01"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def lines():
    """The lines that the API has logged since they were asked for last."""
    written = io.StringIO()
    configure_logging("debug")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))

    def take():
        found = written.getvalue().split("\n")[:-1]
        written.seek(0)
        written.truncate()
        return found

    yield take
    structlog.reset_defaults()


def _id_of(**headers):
    names = ((name.replace("_", "-").encode(), value) for name, value in headers.items())
    return request_id_of([(b"host", b"x"), *names])


@pytest.mark.parametrize("given", ["a", "Root=1-67891233-abc:4/x+y.z_~"[:-2], "x" * 80, TRACE])
def test_an_id_of_the_callers_own_is_taken(given):
    """As it is, also beside a trace."""
    trace = f"00-{TRACE}-{PARENT}-01".encode()
    assert _id_of(x_request_id=given.encode(), traceparent=trace) == given


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"x" * (REQUEST_ID_LENGTH_MAX + 1),
        b"a b",
        b"a\tb",
        b"a\nlevel=error event=forged",
        b"a\x1b[2J",
        b"\xe2\x80\xa8",
        b'a"',
        b"-a",
        new_key().encode(),
    ],
)
def test_what_is_no_id_is_not_taken(given):
    """Neither into a line of the log nor into an answer, and no key; a new one is made then."""
    assert UUID7.fullmatch(_id_of(x_request_id=given))
    assert request_id_of([(b"x-request-id", b"a"), (b"x-request-id", b"b")]) not in ("a", "b")


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"42-{TRACE}-{PARENT}-01-more", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}", False),
    ],
)
def test_the_trace_of_a_caller_is_taken(header, taken):
    """As the W3C has it; what is none is not."""
    assert (_id_of(traceparent=header.encode()) == TRACE) is taken


def test_a_request_has_one_line_with_who_asked_and_what_came_of_it(keyed, lines):
    """The route by its template, the key by its id and name; neither the key nor the query."""
    key = keyed.key["acme", "viewer"]
    keyed.feed.set(Scope("acme", agent_id="secret-agent"), Budget())
    headers = {"X-Request-ID": "mine-1"}
    answer = keyed.ask(key, PATH, headers=headers, params={"organization_id": "acme"})
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = lines()
    told = dict(re.findall(r"(\w+)=(\S+)", line))
    known = keyed.app.state.authenticate._keys.find(key)
    assert re.fullmatch(r"\d+\.\d+", told.pop("duration_ms"))
    assert told.pop("timestamp")
    assert told == {
        "level": "info",
        "event": "request",
        "request_id": "mine-1",
        "method": "GET",
        "route": TEMPLATE,
        "status": "200",
        "bytes": str(len(answer.content)),
        "key": known.id,
        "key_name": "acme-viewer",
        "organization": "acme",
    }
    assert not any(secret in line for secret in (key, "secret-agent", "organization_id"))


def test_every_line_of_a_request_has_its_id(keyed, lines, assert_problem):
    """Its problem has it, too; the next request has another one."""
    keyed.history.problem = HistoryAway("connection refused")
    ids = []
    for _ in range(2):
        answer = keyed.ask(keyed.key["acme", "viewer"], SPEND, params=MONTH)
        ids.append(answer.json()["request_id"])
        assert_problem(answer, 503, "history-unavailable")
    warned, first, _, second = lines()
    assert 'event="the history does not answer"' in warned
    assert [f"request_id={ids[0]}" in line for line in (warned, first)] == [True, True]
    assert f"request_id={ids[1]}" in second
    assert ids[0] != ids[1]


def test_a_bug_has_the_id_in_its_answer_and_its_lines(api, lines, assert_problem):
    """Though that answer goes past the middleware."""
    api.feed.decisions = None
    answer = api.client.get(PATH, params={"organization_id": "o"}, headers={"X-Request-ID": "b"})
    assert_problem(answer, 500, "internal-error")
    assert answer.headers["x-request-id"] == "b"
    found = lines()
    assert len(found) == 2
    assert all(" request_id=b " in line + " " for line in found)
    assert any("status=500" in line for line in found)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_is_asked_all_the_time_is_logged_at_debug(api, lines, path):
    """It would be most of the log."""
    api.client.get(path)
    (line,) = lines()
    assert "level=debug" in line
    assert f"route={path}" in line


def test_no_line_can_be_forged(keyed, lines):
    """By the path, the query, the method or any header: each request has a line, of its own."""
    keyed.feed.decisions = None
    forged = "x%0Alevel=error%20event=forged%1B[2J%E2%80%A8"
    headers = {"X-Outlay-Team": "a\tb", "User-Agent": "x\x1b[2J", "X-Request-ID": "a event=forged"}
    key = keyed.key["acme", "admin"]
    for path in (f"/nowhere/{forged}", f"/api/v1/external-agents/{forged}/budget"):
        keyed.ask(key, path, "GET", headers=headers, params={"q": "event=forged"})
        keyed.ask("wrong", path, "BREW", headers=headers)
    found = lines()
    assert len([line for line in found if " event=request " in line]) == 4
    assert all(line.isprintable() for line in found)
    outside_of_quotes = [re.sub(r'"(\\.|[^"\\])*"', "", line) for line in found]
    assert not [line for line in outside_of_quotes if "forged" in line]


def test_what_is_not_printable_is_written_as_its_code(lines):
    """Ends of lines of all alphabets, and what moves a terminal's cursor or turns the text."""
    event = {"event": "a\nb\r\x1b[2J\u2028\u202e\x85", "n": 1, "name": "Zoë"}
    assert one_line(None, "info", event) == {
        "event": "a\\nb\\r\\x1b[2J\\u2028\\u202e\\x85",
        "n": 1,
        "name": "Zoë",
    }
    structlog.get_logger().info("a\x1b[2J", path="/x\u2028level=error")
    (line,) = lines()
    assert "\\x1b[2J" in line
    assert "\\u2028" in line


def test_a_line_is_what_structlog_makes_of_it():
    """Whatever the values are; ours only costs less."""
    values = ["plain", "a b", 'a"b', "a=b", "a\\b", "a \\ b", "", "é", None, True, False, 0, 1.5]
    values += [OSError("two\nlines"), ["a b", None], {"a": 1}, "\n", '"', "\\"]
    line = {f"v{number}": value for number, value in enumerate(values)}
    told = {**line, "event": "request", "level": "info", "timestamp": "2026-11-21T12:00:00Z"}
    theirs = LogfmtRenderer(key_order=["timestamp", "level", "event"])
    assert logfmt(None, "info", dict(told)) == theirs(None, "info", dict(told))


def test_a_stream_is_logged_when_it_ends(lines):
    """With all that was sent; it counts as open until then."""

    async def scenario(stream, app):
        put(stream, Scope("acme"))
        metrics = app.state.metrics.registry
        client = EventClient(app, headers=((b"x-request-id", b"s1"),))
        async with client:
            await client.until_synced()
            assert not [line for line in lines() if "event=request" in line]
            assert metrics.get_sample_value("outlay_api_decision_streams") == 1
            assert metrics.get_sample_value("outlay_api_requests_in_progress") == 1
            assert metrics.get_sample_value("outlay_api_feed_lag_seconds") == 0
        await eventually(lambda: not metrics.get_sample_value("outlay_api_decision_streams"))
        assert metrics.get_sample_value("outlay_api_requests_in_progress") == 0
        (line,) = [line for line in lines() if "event=request" in line]
        assert "request_id=s1" in line
        assert "route=/api/v1/decisions/stream" in line
        assert int(re.search(r"bytes=(\d+)", line)[1]) > 300

    run_scenario(scenario)
