"""The contract, on a broker with a worker."""

import uuid

import pytest

from outlay.stack import Stack
from tests.testing.contract import StreamContract
from tests.testing.world import KafkaWorld


@pytest.fixture(scope="module")
def world(kafka):
    """One worker for all, on topics of its own."""
    prefix = f"contract-{uuid.uuid4().hex[:12]}"
    settings = {"OUTLAY_TOPIC_PREFIX": prefix, "OUTLAY_APP_ID": prefix}
    with Stack(broker=kafka, owns_broker=False, api=False, settings=settings) as stack:
        stack.wait_ready()
        world = KafkaWorld(stack)
        yield world
        world.close()


class TestOnKafka(StreamContract):
    """The real emitter, budgets, feed and gateway keep it."""
