"""The stack that the pages' code runs against: one for all of them."""

import pytest

from outlay.stack import Stack


@pytest.fixture(scope="package")
def stack(kafka):
    """A broker and a worker."""
    with Stack(broker=kafka, owns_broker=False, api=False) as stack:
        stack.wait_ready()
        yield stack
