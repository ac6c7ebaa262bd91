"""Emit: what a call of `emit` costs its caller, and how many records a second one process delivers.

What arrives is read back from the usage topic and compared with what was emitted.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from statistics import median, quantiles
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition

from bench.kafka import READ_TIMEOUT_S, array_of, consumer
from bench.plan import Plan
from bench.report import Report
from bench.usage import ORGANIZATION, PARTITIONS, Sample, Usage
from outlay import UsageEmitter
from outlay.emitter import LINGER_S, PACK_BYTES_MAX, PACK_RECORDS_MAX
from outlay.framing import decode_message
from outlay.judging import MESSAGE_BYTES_MAX
from outlay.money import to_nano, to_usd
from outlay.usage import UsageRecord
from schemas.settings import Settings
from streams.topics import ensure_topics

AGENTS = 1_000
PAUSE_S = 0.001
"""How long the fleet waits when the buffer is full, and between two calls that are paced."""

FLUSH_TIMEOUT_S = 120.0

CALL_US_MAX = 5.0
DELIVERED_PER_S_MIN = 150_000


def run(plan: Plan, report: Report) -> None:
    """Measure calls and deliveries, and a list and a bare producer beside them."""
    fleet = _Fleet(plan, report)
    variants = {
        "emit_call_us": fleet.call_us,
        "delivered_per_s": fleet.delivered_per_s,
        "delivered_frames_per_s": fleet.delivered_frames_per_s,
    }
    if not plan.smoke:
        variants |= {
            "emit_paced_call_us": fleet.paced_call_us,
            "deque_append_us": fleet.append_us,
            "producer_per_s": fleet.producer_per_s,
        }
    report.measure(variants, warmups=0 if plan.smoke else 1)
    report.ratio("emit call / deque append", "emit_call_us", "deque_append_us")
    delivered = report.ratio(
        "delivered / bare producer of packed messages", "delivered_per_s", "producer_per_s"
    )
    if delivered is not None:
        report.goal("a call in µs", report.value("emit_call_us"), at_most=CALL_US_MAX)
        delivered_per_s = report.value("delivered_per_s")
        report.goal("delivered records/s", delivered_per_s, at_least=DELIVERED_PER_S_MIN)
    report.note(
        "A call is timed in a tight loop, with the background at work on the same interpreter; "
        "paced, it is one call a millisecond."
    )


class _Call(NamedTuple):
    """What one record is emitted from."""

    team_id: str
    user_id: str
    agent_id: str
    cost_usd: str
    input_tokens: int
    output_tokens: int


class _Fleet:
    """Agents that emit into a topic of their own, and what arrives there."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._report = report
        self._servers = plan.broker.bootstrap_servers
        settings = Settings(
            kafka_bootstrap_servers=self._servers,
            topic_prefix=(name := f"emit-{uuid.uuid4().hex[:12]}"),
            app_id=name,  # the changelogs are named by it
            usage_partitions=PARTITIONS,
            totals_partitions=1,
        )
        asyncio.run(ensure_topics(settings))
        self._names = settings.topics
        self._log = _Log(self._servers, self._names.usage)
        samples = Usage(plan.size(AGENTS, 10), trace=plan.trace).take(plan.size(200_000, 2_000))
        self._calls = [_call(sample) for sample in samples]
        self._tight = self._calls[: plan.size(50_000, 500)]  # no more than a buffer holds
        self._paced = self._calls[: plan.size(1_000, 50)]
        self._messages = _packed(samples)

    def call_us(self) -> float:
        """The mean of a call in a tight loop."""
        with self._emitter() as emitter:
            emit = emitter.emit
            started = time.perf_counter()
            for team_id, user_id, agent_id, cost_usd, input_tokens, output_tokens in self._tight:
                emit(
                    organization_id=ORGANIZATION, team_id=team_id, user_id=user_id,
                    agent_id=agent_id, cost_usd=cost_usd, provider="openai", model="gpt-4o",
                    input_tokens=input_tokens, output_tokens=output_tokens,
                )  # fmt: skip
            elapsed = time.perf_counter() - started
            self._report.expect("flushed, calls", emitter.flush(FLUSH_TIMEOUT_S), True)
        self._check("calls", self._tight, emitter)
        return elapsed / len(self._tight) * 1e6

    def paced_call_us(self) -> float:
        """The median of a call where calls are far between; the 99th percentile beside it."""
        calls_us = []
        with self._emitter() as emitter:
            for call in self._paced:
                time.sleep(PAUSE_S)
                started = time.perf_counter()
                emitter.emit(
                    organization_id=ORGANIZATION, provider="openai", model="gpt-4o",
                    **call._asdict(),
                )  # fmt: skip
                calls_us.append((time.perf_counter() - started) * 1e6)
        self._check("paced calls", self._paced, emitter)
        self._report.add("emit_paced_call_p99_us", quantiles(calls_us, n=100)[-1])
        return median(calls_us)

    def delivered_per_s(self) -> float:
        """From the first call until all is delivered; a full buffer is waited for."""
        return self._delivered_per_s("delivered", frames=False)

    def delivered_frames_per_s(self) -> float:
        """The same by columns."""
        return self._delivered_per_s("delivered_frames", frames=True)

    def _delivered_per_s(self, name: str, *, frames: bool) -> float:
        with self._emitter(frames=frames) as emitter:
            emit = emitter.emit
            cpu_s, started = time.process_time(), time.perf_counter()
            for team_id, user_id, agent_id, cost_usd, input_tokens, output_tokens in self._calls:
                while not emit(
                    organization_id=ORGANIZATION, team_id=team_id, user_id=user_id,
                    agent_id=agent_id, cost_usd=cost_usd, provider="openai", model="gpt-4o",
                    input_tokens=input_tokens, output_tokens=output_tokens,
                ):  # fmt: skip
                    time.sleep(PAUSE_S)
            self._report.expect(f"flushed, {name}", emitter.flush(FLUSH_TIMEOUT_S), True)
            elapsed = time.perf_counter() - started
            cpu_s = time.process_time() - cpu_s
        self._check(name, self._calls, emitter)
        self._report.add(f"{name}_cpu_us_per_record", cpu_s / len(self._calls) * 1e6)
        return len(self._calls) / elapsed

    def append_us(self) -> float:
        """The mean of what a list would cost the caller: the same fields into a deque."""
        queue: deque[dict[str, Any]] = deque()
        append = queue.append
        started = time.perf_counter()
        for team_id, user_id, agent_id, cost_usd, input_tokens, output_tokens in self._tight:
            append({
                "organization_id": ORGANIZATION, "team_id": team_id, "user_id": user_id,
                "agent_id": agent_id, "cost_usd": cost_usd, "provider": "openai",
                "model": "gpt-4o", "input_tokens": input_tokens, "output_tokens": output_tokens,
            })  # fmt: skip
        elapsed = time.perf_counter() - started
        self._report.expect("appended", len(queue), len(self._tight))
        return elapsed / len(self._tight) * 1e6

    def producer_per_s(self) -> float:
        """A bare producer that sends messages packed before, to all partitions at once."""
        per_s = asyncio.run(self._produce())
        self._report.expect("arrived of the producer", len(self._log.read()), len(self._calls))
        return per_s

    async def _produce(self) -> float:
        """Into the same topic."""
        async with AIOKafkaProducer(
            bootstrap_servers=self._servers, acks="all", max_batch_size=MESSAGE_BYTES_MAX
        ) as producer:
            started = time.perf_counter()
            sent = [
                await producer.send(self._names.usage, message, partition=partition)
                for partition, message in self._messages
            ]
            await asyncio.gather(*sent)
            return len(self._calls) / (time.perf_counter() - started)

    def _emitter(self, *, frames: bool = False) -> UsageEmitter:
        """One that is connected, and asleep."""
        emitter = UsageEmitter(self._servers, topics=self._names, frames=frames)
        emitter.flush()
        time.sleep(2 * LINGER_S)
        return emitter

    def _check(self, what: str, calls: list[_Call], emitter: UsageEmitter) -> None:
        """What arrived since the last look is what was emitted."""
        arrived = self._log.read()
        expect = self._report.expect
        expect(f"{what}: sent", emitter.stats.sent, len(calls))
        expect(f"{what}: arrived", len(arrived), len(calls))
        expect(f"{what}: distinct ids", len({each.id for each in arrived}), len(calls))
        expect(
            f"{what}: nano-dollars",
            sum(to_nano(each.cost_usd) for each in arrived),
            sum(to_nano(call.cost_usd) for call in calls),
        )
        expect(
            f"{what}: tokens",
            sum(each.input_tokens + each.output_tokens for each in arrived),
            sum(call.input_tokens + call.output_tokens for call in calls),
        )


class _Log:
    """A usage topic that is read on from where it was left."""

    def __init__(self, servers: str, topic: str) -> None:
        self._servers = servers
        self._topic = topic
        self._positions: dict[TopicPartition, int] = {}

    def read(self) -> list[UsageRecord]:
        """The records since the last time."""
        return asyncio.run(self._read())

    async def _read(self) -> list[UsageRecord]:
        found: list[UsageRecord] = []
        async with (
            consumer(self._servers, self._topic) as (client, partitions),
            asyncio.timeout(READ_TIMEOUT_S),
        ):
            ends = await client.end_offsets(partitions)
            client.assign(partitions)
            for partition in partitions:
                client.seek(partition, self._positions.get(partition, 0))
            for partition, end in ends.items():
                while await client.position(partition) < end:
                    batches = await client.getmany(partition, timeout_ms=200)
                    for message in batches.get(partition, []):
                        found += decode_message(message.value)
            self._positions = ends
        return found


def _call(sample: Sample) -> _Call:
    user = sample.agent % 100
    return _Call(
        f"team-{user % 10}",
        f"user-{user}",
        f"agent-{sample.agent:07d}",
        to_usd(sample.cost_nano),
        sample.input_tokens,
        sample.output_tokens,
    )


def _packed(samples: list[Sample]) -> list[tuple[int, bytes]]:
    """The same records as messages, each of one partition, as large as the emitter makes them."""
    size_max = max(len(sample.json) + 1 for sample in samples)
    records_max = min(PACK_RECORDS_MAX, PACK_BYTES_MAX // size_max)
    messages = []
    filling: dict[int, list[bytes]] = defaultdict(list)
    for sample in samples:
        parts = filling[sample.partition]
        parts.append(sample.json)
        if len(parts) == records_max:
            messages.append((sample.partition, array_of(parts)))
            parts.clear()
    return messages + [
        (partition, array_of(parts)) for partition, parts in filling.items() if parts
    ]
