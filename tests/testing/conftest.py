"""What the tests of `outlay.testing` share."""

import uuid

import pytest

from outlay.testing import InMemoryStream
from tests.testing.world import NOON

pytest.register_assert_rewrite(
    *(f"tests.testing.contract_{part}" for part in ("budgets", "usage", "checks", "own"))
)


@pytest.fixture
def org():
    """An organization of the test's own."""
    return f"org-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def stream():
    """A stream at noon."""
    with InMemoryStream(NOON) as stream:
        yield stream
