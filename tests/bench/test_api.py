"""The benchmark of the API: it is correct, counts what goes wrong, and is skipped without wrk."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import msgspec
import pytest

from bench import api, api_held, api_load
from bench.api_bodies import CheckBodies, UsageBodies
from bench.api_held import records_of
from bench.api_load import Load, load, parse, write_lines
from bench.api_results import best_of
from bench.report import Report
from bench.usage import Sums, Usage, add_sums
from outlay.embedded.ports import LOOPBACK

needs_wrk = pytest.mark.skipif(api_load.why_absent() is not None, reason="wrk is not installed")


# -- all of it


@needs_wrk
def test_a_smoke_run_is_correct_and_a_record_that_is_lost_is_noticed(run_smoke, kafka, monkeypatch):
    """All that was acknowledged is at the broker and in the totals; one record less is wrong."""
    held = api_held.records_held
    lost = []

    async def one_less(servers: str, topic: str) -> int:
        lost.append(await held(servers, topic))
        return lost[0] - 1

    monkeypatch.setattr(api, "records_held", one_less)
    result = run_smoke(api, kafka)
    assert result.wrong == [f"records at the broker: {lost[0] - 1}, expected {lost[0]}"]
    names = {"requests_per_s", "p50_ms", "p99_ms", "errors", "cpu_us_per_request"}
    for way in ("usage_single", "usage_array_500", "check"):
        assert {f"{way}_c4_{name}" for name in names} <= set(result.results)
        assert result.results[f"{way}_c4_errors"] == 0
    assert not result.goals


def test_without_wrk_it_is_skipped_by_name(run_smoke, monkeypatch):
    """Then nothing is started, and nothing is wrong."""
    monkeypatch.setattr(api_load.shutil, "which", lambda command: None)
    result = run_smoke(api)
    assert result.skipped == {"api": "no wrk is installed"}
    assert result.correct
    assert not result.results


# -- the load


class Answers:
    """A server whose answers say in turn what is in a list; it keeps the bodies that came."""

    def __init__(self, statuses: list[int]) -> None:
        self.bodies: list[bytes] = []
        self.keys: set[str | None] = set()
        numbers, taken = count(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                taken.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                taken.keys.add(self.headers["Authorization"])
                answer = b'{"marked":%d}' % (next(numbers) % 2)
                self.send_response(statuses[len(taken.bodies) % len(statuses)])
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_port}/"


@pytest.fixture
def answers(request: pytest.FixtureRequest) -> Iterator[Answers]:
    found = Answers(request.param)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


@needs_wrk
@pytest.mark.parametrize("answers", [[202]], indirect=True)
def test_every_request_is_answered_and_counted(answers: Answers, tmp_path: Path) -> None:
    """So many as the server has seen: none is cut off at the end. They carry the key."""
    lines = write_lines(tmp_path / "lines", [b'{"n":0}', b'{"n":1}', b'{"n":2}'])
    found = load(answers.url, lines, connections=3, seconds=0.2, mark='"marked":1', key="secret")
    assert found.sent == found.answered == found.good == len(answers.bodies) > 0
    assert found.marked == len(answers.bodies) // 2
    assert found.errors == 0
    assert found.per_s > 0
    assert 0 < found.p50_ms <= found.p99_ms
    assert answers.keys == {"Bearer secret"}
    seen = [answers.bodies.count(b'{"n":%d}' % number) for number in range(3)]
    rounds, more = divmod(found.sent, 3)
    assert seen == [rounds + (number < more) for number in range(3)]


@needs_wrk
@pytest.mark.parametrize("answers", [[202, 503]], indirect=True)
def test_answers_that_are_not_2xx_are_errors(answers: Answers, tmp_path: Path) -> None:
    """They are no part of the rate."""
    lines = write_lines(tmp_path / "lines", [b"{}"])
    found = load(answers.url, lines, connections=1, seconds=0.2, mark='"marked"')
    assert found.answered == len(answers.bodies)
    assert found.errors == found.answered - found.good == (len(answers.bodies) + 1) // 2
    assert found.marked == found.good


def a_load(**changed: int) -> Load:
    whole = Load(10, 10, 10, 10, 0, 0, 2.0, 1.0, 2.0)
    return msgspec.structs.replace(whole, **changed)


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({}, 0),
        ({"good": 8}, 2),
        ({"answered": 7, "good": 7}, 3),
        ({"answered": 7, "good": 7, "socket_errors": 3}, 3),
        ({"socket_errors": 1}, 1),
        ({"timeouts": 4}, 4),
    ],
)
def test_what_counts_as_an_error(changed: dict[str, int], errors: int) -> None:
    """Another status, no answer, a lost connection, and an answer that came too late."""
    assert a_load(**changed).errors == errors


def test_what_the_script_says_is_found_among_what_wrk_says() -> None:
    """And where the script said nothing, the error has what wrk said."""
    said = b"Running 1s test\n" + msgspec.json.encode(a_load()) + b"\nRequests/sec: 5\n"
    assert parse(said) == a_load()
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse(b"unable to connect to 127.0.0.1:9")


# -- what is sent, and what comes of it


@pytest.mark.parametrize("pack", [1, 5])
@pytest.mark.parametrize("requests", [0, 2, 3, 8])
def test_bodies_know_what_so_many_requests_come_to(
    tmp_path: Path, pack: int, requests: int
) -> None:
    """Counted from all that is sent, in turn from the first body on, and without ids."""
    bodies = UsageBodies(tmp_path / "lines", Usage(20), count=3, pack=pack)
    lines = bodies.lines.read_bytes().splitlines()
    found: Sums = {}
    bodies.add_to(found, requests)
    expected: Sums = {}
    for number in range(requests):
        usage = Usage(20)
        usage.take(pack * (number % 3))
        before = {key: [-each for each in held] for key, held in usage.sums.items()}
        usage.take(pack)
        add_sums(expected, usage.sums)
        add_sums(expected, before)
    assert without_zeros(found) == without_zeros(expected)
    for line in lines:
        records = msgspec.json.decode(line) if pack > 1 else [msgspec.json.decode(line)]
        assert len(records) == pack
        assert not any("id" in record for record in records)


def without_zeros(sums: Sums) -> Sums:
    return {key: held for key, held in sums.items() if any(held)}


def test_checks_are_of_agents_with_budgets_of_which_the_last_allows_nothing(
    tmp_path: Path,
) -> None:
    """Five scopes each; one check in so many as there are agents is blocked."""
    checks = CheckBodies(tmp_path / "lines", 4)
    assert len(checks.budgets) == 1 + 4 * 4
    nothing = [key for key, budget in checks.budgets.items() if not budget.monthly_budget_usd]
    assert nothing == ["organization:acme/agent:agent-0000003"]
    assert [checks.allowed(requests) for requests in (3, 4, 5, 8)] == [3, 3, 4, 6]


def test_records_are_counted_in_either_form() -> None:
    """A message is one record, or an array of them."""
    assert [records_of(value) for value in (b'{"id":"[1,2]"}', b'[{"a":[1]},{}]')] == [1, 2]


# -- the best


def test_the_best_rate_is_the_highest_without_errors_and_soon_enough() -> None:
    """More that is late, or goes wrong once in any round, is no rate."""
    report = Report("api", 2, print)
    for connections, per_s, p99_ms, errors in (
        (1, 10.0, 5.0, (0, 0)),
        (4, 30.0, 20.0, (0, 0)),
        (16, 40.0, 101.0, (0, 0)),
        (64, 50.0, 30.0, (0, 1)),
    ):
        for error in errors:
            report.add(f"x_c{connections}_requests_per_s", per_s)
            report.add(f"x_c{connections}_p99_ms", p99_ms)
            report.add(f"x_c{connections}_errors", error)
    assert best_of(report, "x", (1, 4, 16, 64), 100.0) == 4
    assert best_of(report, "x", (1, 4, 16, 64), 200.0) == 16
    assert best_of(report, "x", (1, 4, 16, 64), 4.0) is None
