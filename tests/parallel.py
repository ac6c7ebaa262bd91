"""How the tests are dealt to several processes, each with a broker of its own: `pytest -n 3`.

A process gets a file at a time, so that the file's fixtures are made once; all files of a package
that share a stack; single tests of the files whose tests share nothing but the broker. What takes
longest is dealt first: at the end everybody would wait for it.
"""

import pytest

from outlay.apikey import without_keys

ONE_STACK = ("tests/docs/", "tests/e2e/")
ONE_BY_ONE = (
    "tests/api/test_process.py",
    "tests/bench/test_streams.py",
    "tests/crash/test_crash.py",
    "tests/demo/test_end_to_end.py",
    "tests/e2e/test_worker_process.py",
    "tests/history/test_round_trip.py",
)
LONG = (
    "tests/crash/",
    "tests/testing/test_kafka_contract.py",
    "tests/embedded/test_kafka_broker.py",
    "tests/demo/test_end_to_end.py",
    "tests/library/test_outage.py",
    "tests/e2e/",
    "tests/api/test_openapi_fuzz.py",
    "tests/bench/",
    "tests/history/",
    "tests/streams/",
    "tests/docs/",
    "tests/api/",
    "tests/demo/",
)


def unit(nodeid: str) -> str:
    """What is dealt together with a test: what it shares fixtures with."""
    path = nodeid.partition("::")[0]
    if path in ONE_BY_ONE:
        return nodeid
    return next((package for package in ONE_STACK if path.startswith(package)), path)


def _rank(item: pytest.Item) -> int:
    long = (n for n, prefix in enumerate(LONG) if item.nodeid.startswith(prefix))
    return next(long, len(LONG))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones first, in the processes that tests are dealt to."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A key is another in each process, and all have to call a test the same."""
    text = val.decode("ascii", "replace") if isinstance(val, bytes) else val
    if not isinstance(text, str) or without_keys(text) == text:
        return None
    return without_keys(text).encode("ascii", "replace").decode()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deals the units in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class UnitScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # it would take the number of tests for the length
    return UnitScheduling(config, log)
