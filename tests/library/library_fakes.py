"""A topic in memory behind the library's two seams, and how its messages are made in tests."""

import asyncio
import time
from datetime import UTC, datetime

from outlay import Amounts, Budget, Decision, Outcome, Watermark, Window
from outlay.decision import OUTCOME_PREFIX, WATERMARK_KEY, encode, window_usage
from outlay.judging import decode_usage
from outlay.reading import Message
from outlay.topics import partition_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_S = NOW.timestamp()
NANO = 10**9
READ_AT_ONCE = 2  # so that loading takes several reads


class FakeTopic:
    """Partitions as lists of (offset, key, value); `markers` are offsets that nobody is given."""

    def __init__(self, partitions=1):
        self.logs = [[] for _ in range(partitions)]
        self.ends = [0] * partitions
        self.away = False  # no connection can be made
        self.start_error = ConnectionRefusedError("nobody listens")
        self.hand_over_error = None  # nothing leaves
        self.delivery_error = None  # it is not known what arrived
        self.held = None  # an asyncio.Event that deliveries wait for
        self.readers = self.senders = 0

    def append(self, key, value, partition=0):
        self.logs[partition].append((self.ends[partition], key, value))
        self.ends[partition] += 1
        return self.ends[partition] - 1

    def append_marker(self, partition=0):
        """A transaction's end: it takes an offset."""
        self.ends[partition] += 1

    def messages(self):
        return [(p, key, value) for p, log in enumerate(self.logs) for _, key, value in log]

    # -- what the totals stage would publish

    def decide(
        self, scope, budget=None, *, version=1, day=None, month=None, at=NOW, partition=None
    ):
        windows = {}
        if day is not None:
            windows[Window.day(at).name] = window_usage(day, {0: 1})
        if month is not None:
            windows[Window.month(at).name] = window_usage(month, {0: 1})
        decision = Decision(scope.key, version, "ok", budget or Budget(), windows, "r", at)
        self.append(scope.key.encode(), encode(decision), self._of(scope, partition))
        return decision

    def forget(self, scope):
        self.append(scope.key.encode(), None, self._of(scope, None))

    def answer(self, request, version, reason=""):
        outcome = Outcome(request.request_id, request.scope, not reason, version, reason, NOW)
        key = OUTCOME_PREFIX + request.scope.encode()
        self.append(key, encode(outcome), partition_of(request.scope.encode(), len(self.logs)))

    def watermark(self, partition=0, at=NOW):
        self.append(WATERMARK_KEY, encode(Watermark({0: 1}, at)), partition)

    def _of(self, scope, partition):
        if partition is not None:
            return partition
        return partition_of(scope.key.encode(), len(self.logs))


class FakeSender:
    """An `outlay.sending.Sender` over a `FakeTopic`."""

    def __init__(self, topic):
        self.topic = topic
        self.started = False

    async def start(self):
        if self.topic.away:
            raise self.topic.start_error
        self.topic.senders += 1
        self.started = True

    @property
    def partitions(self):
        return len(self.topic.logs)

    async def send(self, partition, key, value):
        if self.topic.hand_over_error:
            raise self.topic.hand_over_error
        return self._deliver(partition, key, value)

    async def _deliver(self, partition, key, value):
        if self.topic.held is not None:
            await self.topic.held.wait()
        await asyncio.sleep(0)
        if self.topic.delivery_error:
            raise self.topic.delivery_error
        return self.topic.append(key, value, partition)

    async def stop(self):
        if self.started:
            self.topic.senders -= 1
            self.started = False


class FakeReader:
    """An `outlay.reading.Reader` over a `FakeTopic`."""

    def __init__(self, topic):
        self.topic = topic
        self.positions = [0] * len(topic.logs)
        self.started = False

    async def start(self):
        if self.topic.away:
            raise self.topic.start_error
        self.topic.readers += 1
        self.started = True
        return dict(enumerate(self.topic.ends))

    @property
    def partitions(self):
        return len(self.topic.logs)

    async def read(self):
        await asyncio.sleep(0.002)
        if self.topic.away:
            raise self.topic.start_error
        found = []
        for partition, log in enumerate(self.topic.logs[: len(self.positions)]):
            more = [each for each in log if each[0] >= self.positions[partition]]
            found += [Message(partition, *each) for each in more[:READ_AT_ONCE]]
            if len(more) <= READ_AT_ONCE:
                self.positions[partition] = self.topic.ends[partition]
            else:
                self.positions[partition] = more[READ_AT_ONCE][0]
        return found

    async def position(self, partition):
        return self.positions[partition]

    async def stop(self):
        if self.started:
            self.topic.readers -= 1
            self.started = False


def dollars(amount, executions=0):
    return Amounts(int(amount * NANO), executions)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now_s=0.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


def read_usages(topics):
    """Every record of the usage topic on a real broker with its partition, and its messages."""
    messages = topics.read(topics.names.usage)
    usages = []
    for message in messages:
        counted, rejections = decode_usage(message.value, message.timestamp)
        assert not rejections
        usages += [(message.partition, usage) for usage in counted]
    return usages, messages


def eventually(look, timeout_s=10.0):
    """Wait until `look()` is true."""
    deadline_s = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline_s, "it has not come about in time"
        time.sleep(0.005)
