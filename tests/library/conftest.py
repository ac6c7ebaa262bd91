"""What the library's tests share."""

import gc
import threading

import pytest

from outlay import background


@pytest.fixture(autouse=True)
def nothing_is_left(spared):
    """Every test ends what it starts: the background thread ends with its last user."""
    before = set(threading.enumerate())
    yield
    left, background._shared = background._shared, None  # one leak fails one test
    assert left is None
    started = set(threading.enumerate()) - before
    assert "outlay-background" not in {thread.name for thread in started}
    gc.collect()  # what was not closed warns here, in the test that made it
