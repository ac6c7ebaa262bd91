"""The contract, in memory."""

import pytest

from tests.library.conftest import nothing_is_left  # noqa: F401 - it watches over every test here
from tests.testing.contract import StreamContract
from tests.testing.world import MemoryWorld


@pytest.fixture(scope="module")
def world():
    """One stream for all, as the real one is."""
    world = MemoryWorld()
    yield world
    world.close()


class TestInMemory(StreamContract):
    """`outlay.testing` keeps it."""
