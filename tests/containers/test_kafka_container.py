"""Usage messages through a Kafka broker in a container."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from outlay.judging import decode_usage
from tests.history.records import message, usage


def test_usage_messages_come_back_as_they_were_sent(kafka_container):
    """Produced in a transaction, consumed, decoded."""
    records = [usage(), usage(cost_usd="0.000000001")]

    async def work():
        async with (
            AIOKafkaProducer(
                bootstrap_servers=kafka_container, transactional_id="containers"
            ) as producer,
            producer.transaction(),
        ):
            await producer.send_and_wait("containers", message(*records).value)
        async with AIOKafkaConsumer(
            "containers", bootstrap_servers=kafka_container, auto_offset_reset="earliest"
        ) as consumer:
            return await asyncio.wait_for(consumer.getone(), 30)

    received = asyncio.run(work())
    usages, rejections = decode_usage(received.value, received.timestamp)
    assert rejections == []
    assert [each.record.id for each in usages] == [record.id for record in records]
