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
    with Stack(
        broker=kafka, owns_broker=False, api=False, settings={"OUTLAY_TOPIC_PREFIX": prefix}
    ) as stack:
        stack.wait_ready()
        world = KafkaWorld(stack)
        yield world
        world.close()


class TestOnKafka(StreamContract):
    """The real emitter, budgets, feed and gateway keep it."""
