"""A small world for the delivery of alerts: a clock, a log and webhooks in memory."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from outlay.alert import Alert, alert_id, encode_alert
from outlay.alert_config import AlertConfig, AlertConfigRecord, encode_config_record
from schemas.settings import Settings
from streams.alerting.app import AlertsApp
from streams.alerting.dead_letter import DeadAlert
from streams.alerting.directory import Directory
from streams.alerting.incoming import Incoming, incoming
from streams.alerting.records import Pending, decode_pending, decode_scope
from streams.alerting.retrying import Outcome

RUN_S_MAX = 60
START_MS = 1_795_000_000_000
SCOPE = "organization:acme/agent:writer"
SECRETS = tuple("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
FIVE_ATTEMPTS = Settings(alert_attempts_max=5)
TWO_ATTEMPTS = Settings(alert_attempts_max=2)
_numbers = itertools.count()


def alert(scope: str = SCOPE, threshold: str | None = "0.75", **fields: Any) -> Alert:
    """An alert of a scope, with an id of its own unless one is given."""
    share = None if threshold is None else Decimal(threshold)
    values: dict[str, Any] = {
        "alert_id": alert_id("test", next(_numbers)),
        "event": "budget.warning",
        "scope": scope,
        "organization_id": scope.split("/")[0].removeprefix("organization:"),
        "window": "2026-11",
        "window_kind": "month",
        "limit_kind": "cost",
        "threshold": share,
        "used": "780.000000001",
        "limit": "1000",
        "used_share": "0.780000",
        "step": () if share is None else (share,),
        "version": 3,
        "enforcement_mode": "hard",
        "daily_spent_usd": "12.5",
        "daily_budget_usd": None,
        "monthly_spent_usd": "780.000000001",
        "monthly_budget_usd": "1000",
        "detected_at": datetime(2026, 11, 22, 12, tzinfo=UTC),
    }
    return Alert(**(values | fields))


def step(scope: str, *thresholds: str, **fields: Any) -> list[Alert]:
    """The alerts of one step, in the order in which they are told."""
    shares = tuple(map(Decimal, thresholds))
    return [alert(scope, threshold, step=shares, **fields) for threshold in thresholds]


class FakeClock:
    """A clock that only goes when it is told to."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._moved = asyncio.Event()
        self._awaited: list[int] = []

    def now_ms(self) -> int:
        return self._now_ms

    async def wait(self, event: asyncio.Event, until_ms: int | None) -> None:
        if event.is_set() or (until_ms is not None and self._now_ms >= until_ms):
            await asyncio.sleep(0)
            return
        entry = [] if until_ms is None else [until_ms]
        self._awaited += entry
        waiting = [asyncio.create_task(each.wait()) for each in (event, self._moved)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in entry:
                self._awaited.remove(each)
            for task in waiting:
                task.cancel()

    def advance(self, ms: int) -> None:
        """Go on by so many milliseconds, and have those who wait look at it."""
        self._now_ms += ms
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def jump(self) -> bool:
        """Go on to the earliest time that somebody waits for; False: there is none."""
        if not self._awaited:
            return False
        self.advance(max(min(self._awaited) - self._now_ms, 0))
        return True


class Crash(Exception):
    """The process is gone."""


@dataclass
class Broker:
    """The topics in memory, which outlive the process. `steps` counts what is done to them."""

    partitions: int = 1
    alerts: dict[int, list[tuple[bytes, list[tuple[str, bytes]]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    state: dict[int, list[tuple[bytes, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    committed: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    deliveries: list[Any] = field(default_factory=list)
    dead: list[DeadAlert] = field(default_factory=list)

    def publish(self, *alerts: Alert, partition: int = 0, headers: Any = ()) -> None:
        """Put alerts on the topic."""
        self.alerts[partition] += [(encode_alert(each), list(headers)) for each in alerts]

    def folded(self, partition: int) -> dict[bytes, bytes]:
        """The last value of each key of a partition's state."""
        folded: dict[bytes, bytes | None] = dict(self.state[partition])
        return {key: value for key, value in folded.items() if value is not None}

    def pending(self) -> list[Pending]:
        """The deliveries that are not finished."""
        return [
            decode_pending(value)
            for number in range(self.partitions)
            for key, value in self.folded(number).items()
            if key.startswith(b"delivery ")
        ]

    def held(self) -> int:
        """How many alerts are held."""
        return sum(
            len(decode_scope(value).held)
            for number in range(self.partitions)
            for key, value in self.folded(number).items()
            if key.startswith(b"scope ")
        )

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is left to do."""
        read = all(self.committed[n] == len(self.alerts[n]) for n in range(self.partitions))
        return read and not self.pending() and not self.held()


class MemoryLog:
    """An `AlertLog` over a `Broker`. `at_step` is told before and after each thing that is done."""

    def __init__(self, broker: Broker, at_step: Callable[[str], None] = lambda name: None) -> None:
        self.broker = broker
        self.at_step = at_step
        self.owner: Any = None
        self.idle_s = 0.0
        self._positions: dict[int, int] = {}

    async def open(self, owner):
        self.owner = owner
        owner.assigned(range(self.broker.partitions))

    async def load(self, partition):
        self._positions[partition] = self.broker.committed[partition]
        return self.broker.folded(partition)

    async def read(self, partitions, timeout_s) -> dict[int, list[Incoming]]:
        await asyncio.sleep(self.idle_s)
        found = {}
        for number in partitions:
            start = self._positions[number]
            messages = self.broker.alerts[number][start : start + 500]
            if messages:
                self._positions[number] += len(messages)
                found[number] = [
                    incoming(number, start + i, value, headers)
                    for i, (value, headers) in enumerate(messages)
                ]
        return found

    async def write(self, partition, records, *, told=None, dead=None):
        if dead is not None:
            self.at_step("before bury")
            self.broker.dead.append(dead)
            self.at_step("after bury")
        if told is not None:
            self.at_step("before tell")
            self.broker.deliveries.append(told)
            self.at_step("after tell")
        self.at_step("before write")
        await _while_others_go_on()
        self.broker.state[partition] += records.items()
        self.at_step("after write")

    async def commit(self, partition, offset):
        self.at_step("before commit")
        await _while_others_go_on()
        self.broker.committed[partition] = offset
        self.at_step("after commit")
        return True

    async def lags(self):
        return {n: len(self.broker.alerts[n]) - at for n, at in self._positions.items()}

    async def close(self):
        pass


async def _while_others_go_on() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class MemoryConfigs:
    """Configurations that a test sets."""

    def __init__(self, **configs: AlertConfig) -> None:
        self.directory = Directory()
        self.changed: Callable[[], None] = lambda: None
        self._version = 0
        for scope, config in configs.items():
            self.put(scope, config)

    def put(self, scope: str, config: AlertConfig) -> None:
        """Set a scope's configuration, with a version of its own."""
        self._version += 1
        record = AlertConfigRecord(scope, self._version, config)
        self.directory.apply(scope.encode(), encode_config_record(record))
        self.changed()

    def start(self, changed):
        self.changed = changed

    async def catch_up(self):
        pass

    async def close(self):
        pass


@dataclass
class FakeChannel:
    """Webhooks and mails that only remember; `answer` says what becomes of the nth attempt."""

    answer: Callable[[str, int], Outcome] = lambda delivery_id, attempt: Outcome("delivered")
    sent: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    recipients: list[tuple[str, ...]] = field(default_factory=list)
    at_step: Callable[[str], None] = lambda name: None
    attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def send(self, *given):
        config_or_id, *rest = given
        delivery_id, alerts = (
            (config_or_id, rest[0]) if isinstance(config_or_id, str) else (rest[0], rest[1])
        )
        if isinstance(config_or_id, str):
            self.recipients.append(rest[2])
        self.at_step("before send")
        await asyncio.sleep(0)
        self.attempts[delivery_id] += 1
        self.sent.append((delivery_id, tuple(each.alert_id for each in alerts)))
        self.at_step("after send")
        return self.answer(delivery_id, self.attempts[delivery_id])


class World:
    """An application over all of this, and a way to run it."""

    def __init__(self, broker: Broker | None = None, clock: FakeClock | None = None) -> None:
        self.broker = Broker() if broker is None else broker
        self.clock = FakeClock() if clock is None else clock
        self.configs = MemoryConfigs()
        self.webhooks: Any = FakeChannel()
        self.mails: Any = FakeChannel()
        self.log = MemoryLog(self.broker)
        self.settings = FIVE_ATTEMPTS
        self.app: Any = None

    async def run(self, until: Callable[[], bool] | None = None, *, jump: bool = True) -> None:
        """Run it until so; by default until nothing is left to do. Time goes on when all rest."""
        done = (lambda: self.broker.is_quiet) if until is None else until
        self.app = AlertsApp(
            self.settings, self.log, self.configs, self.webhooks, self.mails, self.clock
        )
        task = asyncio.create_task(self.app.run())
        try:
            async with asyncio.timeout(RUN_S_MAX):
                while not task.done():
                    for _ in range(60 if jump else 1):
                        await asyncio.sleep(self.log.idle_s)
                    if done():
                        break
                    if jump:
                        self.clock.jump()
        finally:
            self.app.stop()
            await asyncio.gather(task, return_exceptions=True)
        task.result()
