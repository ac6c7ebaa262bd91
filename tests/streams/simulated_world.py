"""The two stages at work over a simulated broker, with everything that may go wrong.

The states and flushes are the product's own; Kafka, Faust and the clock are not there. A schedule
of (action, seed) pairs says what happens: usage comes in, batches are applied in any grouping,
flushes advance step by step, workers crash between any two steps, freeze and wake up after others
took over, logs are compacted. `settle` then lets all of it come to rest, and `check` compares
with what the log says by an independent count.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from outlay.alert import Alert, decode_alert
from outlay.alert_config import AlertConfigRecord, decode_config_record
from outlay.decision import (
    OUTCOME_PREFIX,
    WATERMARK_KEY,
    BudgetRequest,
    Decision,
    Outcome,
    decode_decision,
    decode_outcome,
    decode_watermark,
    encode,
)
from outlay.framing import encode_frame
from outlay.topics import TopicNames, partition_of
from outlay.usage import UsageRecord, encode_usage
from outlay.window import floor_names
from schemas.messages import AuditRecord
from streams import messages
from streams.audit import decode_audit
from streams.batch import Batch
from streams.flush import Flush, Outgoing
from streams.owned import Stage, State
from streams.partials import Partials
from streams.saving import SAVE_INTERVAL_MS
from streams.stages import Changelogs, PartialsStage, TotalsStage
from streams.totals_state import TotalsState
from tests.streams.flat import Entry, entries, entries_of, flat, total_of
from tests.streams.simulated_broker import FencedWrite, Record, SimulatedBroker, TopicPartition

P, Q = 3, 2
SETTLE_ROUNDS = 6
TOPICS, CHANGELOGS = TopicNames(), Changelogs("outlay")
START = datetime(2026, 2, 27, 22, 0, tzinfo=UTC)
AGENTS = ["a1", "a2", "a3"]
TEAMS = [None, "t1", "t2"]
USERS = [None, "u1"]
SECRET = "whsec_" + "c2VjcmV0" * 4
THRESHOLDS = [["0.5", "0.75", "0.9", "1"], ["0.01", "0.02", "0.3"], ["0.9", "1.5"], []]
SCOPES = [
    "organization:acme", "organization:acme/team:t1",
    "organization:acme/agent:a1", "organization:acme/agent:a2",
]  # fmt: skip

Key = tuple[str, str]


class Had(NamedTuple):
    """What a scope has by the requests, and by its last version; no thresholds: no own ones."""

    limit: Decimal | None = None
    version: int = 0
    exists: bool = False
    thresholds: tuple[Decimal, ...] | None = None


ACTIONS = (
    "emit", "emit", "emit", "apply", "apply", "apply", "flush", "flush", "step", "step", "step",
    "crash", "freeze", "wake", "rebalance", "seek_back", "compact", "clock", "request", "bad",
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """Rules of the design that a test of the tests may break."""

    fence: bool = True
    transactions: bool = True
    committed: bool = True
    zombies: bool = True


class Task:
    """One owned partition of a stage in a worker."""

    def __init__(self, world: World, stage: Stage, partition: int) -> None:
        self.world, self.stage, self.partition = world, stage, partition
        self.tid = f"outlay-{stage.name}-{partition}" if world.rules.transactions else None
        broker = world.broker
        self.epoch = broker.init(self.tid) if self.tid and world.rules.fence else 1
        if self.tid and not world.rules.fence:
            broker._epochs[self.tid] = 1
        self.state: State = stage.new_state(partition)
        for changelog in stage.changelogs:
            at = (changelog, partition)
            read = broker.read_committed if world.rules.committed else broker.read
            self.state.load(changelog, read(at, 0, broker.end(at)))
        self.next = {t: broker.committed.get((t, partition), 0) for t in stage.sources}
        ends = {t: broker.end((t, partition)) for t in stage.sources}
        self.state.begin(dict(self.next), ends)
        self.flushing: Iterator[None] | None = None

    def apply(self, rng: random.Random, size: int) -> None:
        topic = rng.choice(self.stage.sources)
        at, start = (topic, self.partition), self.next[topic]
        end = min(self.world.broker.end(at), start + size)
        if end > start:
            records = self.world.broker.read(at, start, end)
            assert self.state.apply(Batch(topic, self.partition, records, start, end)) is None
            self.next[topic] = end

    def seek_back(self) -> None:
        for topic in self.stage.sources:
            committed = self.world.broker.committed.get((topic, self.partition), 0)
            self.next[topic] = min(self.next[topic], committed)

    def flush(self, rng: random.Random, *, last: bool = False) -> None:
        if self.flushing is None:
            plan = self.state.flush(self.world.now_ms, last=last)
            if plan is not None:
                self.flushing = self._write(plan, rng)

    def step(self, count: int) -> None:
        for _ in range(count):
            if self.flushing is None:
                return
            if next(self.flushing, self) is self:  # it came to its end
                self.flushing = None

    def _write(self, plan: Flush, rng: random.Random) -> Iterator[None]:
        broker, seen = self.world.broker, self.world.seen
        saves = bool(plan.transactions[-1].offsets)
        seen[self.stage.name, "saves" if saves else "told only"] += 1
        for transaction in plan.transactions:
            if transaction.told and self.tid and broker.is_fenced(self.tid, self.epoch):
                seen[self.stage.name, "told by a zombie"] += 1
            yield from self._send(transaction.told, None, rng)
            if transaction.size or transaction.offsets:
                yield from self._send(transaction.outputs, self.tid, rng)
                yield from self._send(transaction.changelog, self.tid, rng)
                broker.commit(dict(transaction.offsets), self.tid, self.epoch)
                yield
        seen[self.stage.name, "saved"] += saves

    def _send(self, group: list[Outgoing], tid: str | None, rng: random.Random) -> Iterator[None]:
        """Message by message, of one target after the other, in any order of these."""
        by_target = defaultdict(list)
        for message in flat(group):
            by_target[message.topic, message.partition].append(message)
        for target in rng.sample(sorted(by_target), len(by_target)):
            for message in by_target[target]:
                record = self.world.broker.append(
                    target, message.key, message.value, self.world.now_ms, tid, self.epoch
                )
                self.world.observe(target, record)
                yield


class Worker:
    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.frozen = False


class World:
    """Two or three workers, one broker, and what the log says."""

    def __init__(
        self, rules: Rules = Rules(), refresh_ms: int = 1_000, at_once_max: int = 0
    ) -> None:
        self.rules = rules
        self.broker = SimulatedBroker()
        self.now = START
        self.pauses_ms: tuple[int, ...] = (1, 100, 400, 1_200)
        save_ms = SAVE_INTERVAL_MS if rules.transactions else 0  # as a worker has it
        self.stages: list[Stage] = [
            PartialsStage(TOPICS, CHANGELOGS, Q, _no_writer, save_ms),
            TotalsStage(TOPICS, CHANGELOGS, Q, P, refresh_ms, _no_writer, at_once_max, save_ms),
        ]
        self.workers = [Worker(), Worker(), Worker()]
        self.violations: list[str] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        """What happened how often, by stage."""
        self.rejects: set[bytes] = set()
        self.requests: dict[int, list[BudgetRequest]] = defaultdict(list)
        self._prefix: dict[tuple[int, Key], list[tuple[int, int, int]]] = defaultdict(list)
        self._held: dict[tuple[int, str], Decision] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._audited: dict[TopicPartition, AuditRecord] = {}
        self._alerts: dict[str, Alert] = {}
        self._named: set[tuple[object, ...]] = set()
        self._configs: dict[str, AlertConfigRecord | None] = {}
        self._serial = 0
        self._jumped = False
        self.rebalance(random.Random(0))

    @property
    def now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    # -- what happens

    def run(self, schedule: list[tuple[str, int]]) -> None:
        for action, seed in schedule:
            rng = random.Random(seed)
            self.now += timedelta(milliseconds=rng.choice(self.pauses_ms))
            getattr(self, action)(rng)

    def emit(self, rng: random.Random) -> None:
        p = rng.randrange(P)
        records = [self._record(rng) for _ in range(rng.choice((1, 1, 2, 5)))]
        value = (rng.choice((True, False)) and encode_frame(records)) or encode_usage(records)
        message = self.broker.append((TOPICS.usage, p), None, value, self.now_ms)
        for record in records:
            self._count(p, message.offset, record)

    def _record(self, rng: random.Random) -> UsageRecord:
        age = rng.choice((0, 0, 0, 1, 3, 30, 45, 500)) * timedelta(hours=22)
        ahead = rng.choice((0, 0, 0, 20)) * timedelta(hours=1)
        return UsageRecord.new(
            organization_id="acme",
            agent_id=rng.choice(AGENTS),
            team_id=rng.choice(TEAMS),
            user_id=rng.choice(USERS),
            cost_usd=Decimal(rng.randint(1, 10**7)).scaleb(-6),
            input_tokens=rng.randint(0, 500),
            output_tokens=rng.randint(0, 50),
            occurred_at=self.now - age + ahead,
        )

    def _count(self, p: int, offset: int, record: UsageRecord) -> None:
        """The independent count: no code of the stages takes part."""
        nano = int(Fraction(record.cost_usd) * 10**9)
        org = "organization:acme"
        scopes = [org, f"{org}/agent:{record.agent_id}"]
        if record.team_id:
            scopes.append(f"{org}/team:{record.team_id}")
        if record.user_id:
            scopes.append(f"{org}/user:{record.user_id}")
        if record.team_id and record.user_id:
            scopes.append(f"{org}/team:{record.team_id}/user:{record.user_id}")
        day = record.occurred_at.astimezone(UTC)
        for scope in scopes:
            for window in (day.strftime("%Y-%m-%d"), day.strftime("%Y-%m")):
                self._prefix[p, (scope, window)].append((offset, nano, 1))

    def truth(self, p: int, key: Key, up_to: int) -> tuple[int, int]:
        """Nano-dollars and records of a key in a partition, up to an offset."""
        held = [(nano, n) for offset, nano, n in self._prefix[p, key] if offset <= up_to]
        return sum(nano for nano, _ in held), sum(n for _, n in held)

    def bad(self, rng: random.Random) -> None:
        p = rng.randrange(P)
        record = self.broker.append((TOPICS.usage, p), None, b'{"id": 3', self.now_ms)
        self.rejects.add(f"{TOPICS.usage}/{p}/{record.offset}".encode())

    def request(self, rng: random.Random) -> None:
        scope = rng.choice(SCOPES)
        q = partition_of(scope.encode(), Q)
        self._serial += 1
        made = self.requests[q]
        request = BudgetRequest(
            request_id=f"r{self._serial}",
            scope=scope,
            action=rng.choice(("patch", "patch", "patch", "put", "put", "delete")),
            changes={"monthly_budget_usd": rng.choice(("5", "50", "500", "0", "-1"))},
            expected_version=rng.choice((None, None, None, 0, 1, 2)),
        )
        if rng.random() < 0.4:
            request = self._alert_request(request, rng)
        if made and rng.random() < 0.2:
            request = rng.choice(made)  # a client that asks again
        made.append(request)
        self.broker.append(
            (TOPICS.budgets, q), request.scope.encode(), encode(request), self.now_ms
        )

    def _alert_request(self, request: BudgetRequest, rng: random.Random) -> BudgetRequest:
        changes = {
            "thresholds": rng.choice(THRESHOLDS),
            "webhook_secrets": [SECRET],
            "alert_once_per_threshold": rng.random() < 0.7,
            "cooldown_minutes": rng.choice((0, 15)),
        }
        if rng.random() < 0.3:
            return replace(request, action="delete_alerts", changes={})
        return replace(request, action="put_alerts", changes=changes)

    def apply(self, rng: random.Random) -> None:
        for task in self._some(rng):
            task.apply(rng, rng.choice((1, 2, 5, 50)))

    def flush(self, rng: random.Random) -> None:
        for task in self._some(rng):
            task.flush(rng)

    def step(self, rng: random.Random) -> None:
        for worker in self._awake():
            for task in list(worker.tasks):
                if rng.random() < 0.6:
                    try:
                        task.step(rng.choice((1, 2, 4, 30)))
                    except FencedWrite:
                        worker.tasks = []

    def crash(self, rng: random.Random) -> None:
        worker = rng.choice(self.workers)
        worker.tasks, worker.frozen = [], False
        self.rebalance(rng)

    def freeze(self, rng: random.Random) -> None:
        if self.rules.zombies and self.rules.transactions:
            awake = self._awake()
            if len(awake) > 1:
                rng.choice(awake).frozen = True
                self.rebalance(rng)  # its session has ended: the others take over

    def wake(self, rng: random.Random) -> None:
        """A frozen worker goes on where it was, before it hears that it is out."""
        for worker in self.workers:
            if worker.frozen:
                worker.frozen = False
                for task in worker.tasks:
                    try:
                        task.flush(rng)
                        task.step(100)
                    except FencedWrite:
                        continue
                worker.tasks = []

    def seek_back(self, rng: random.Random) -> None:
        for task in self._some(rng):
            task.seek_back()

    def compact(self, rng: random.Random) -> None:
        for at in list(self.broker.logs):
            if at[0].endswith("changelog") and rng.random() < 0.5:
                self.broker.compact(at, rng.randint(0, self.broker.end(at)))

    def clock(self, rng: random.Random) -> None:
        hours = rng.choice((1, 5, 26, 26, 24 * 35, 24 * 45))
        self.now += timedelta(hours=hours)
        self._jumped = self._jumped or hours > 24 * 30

    def rebalance(self, rng: random.Random) -> None:
        awake = self._awake()
        for worker in awake:
            for task in worker.tasks:  # the last flush, which may not come to its end
                if rng.random() < 0.5:
                    try:
                        task.flush(rng, last=True)
                        task.step(rng.choice((1, 5, 1_000)))
                    except FencedWrite:
                        continue
            worker.tasks = []
        for stage, partitions in zip(self.stages, (P, Q), strict=True):
            for partition in range(partitions):
                rng.choice(awake).tasks.append(Task(self, stage, partition))

    def _awake(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.frozen]

    def _some(self, rng: random.Random) -> list[Task]:
        return [t for w in self._awake() for t in w.tasks if rng.random() < 0.6]

    # -- what anybody may read

    def violate(self, text: str) -> None:
        self.violations.append(text)

    def observe(self, at: TopicPartition, record: Record) -> None:
        """Each message is judged when it is written: aborted ones may be read, too."""
        topic, partition = at
        if topic == TOPICS.partials:
            message = messages.decode_partials(record.value)
            for key, entry in entries_of(message.entries).items():
                self._check_sum(message.partition, key, entry)
        elif topic == TOPICS.decisions and record.key is not None:
            self._observe_decision(partition, record.key, record.value)
        elif topic == TOPICS.audit:
            self._observe_audit(partition, decode_audit(record.value or b""))
        elif topic == TOPICS.alerts:
            self._observe_alert(partition, decode_alert(record.value or b""))
        elif topic == TOPICS.alert_configs and record.key is not None:
            config = None if record.value is None else decode_config_record(record.value)
            self._configs[record.key.decode()] = config
        elif topic == CHANGELOGS.alerts and record.value is not None and b"limits" in record.value:
            self._observe_seen((record.key or b"").decode(), record.value)
        holds_secrets = topic in (TOPICS.alert_configs, CHANGELOGS.budgets)
        if not holds_secrets and SECRET.encode() in (record.value or b""):
            self.violate(f"{topic} shows a secret")

    def _observe_alert(self, q: int, alert: Alert) -> None:
        """An id names one thing."""
        if partition_of(alert.scope.encode(), Q) != q:
            self.violate(f"{alert} in partition {q}")
        first = self._alerts.setdefault(alert.alert_id, alert)
        self._named.add(named(alert))
        if named(first) != named(alert):
            self.violate(f"{alert.alert_id} is {first}, and then {alert}")

    def _observe_seen(self, key: str, value: bytes) -> None:
        """What the changelog shows as told has been told."""
        scope, window = key.split(" ")
        for kind, marks in msgspec.json.decode(value)["limits"].items():
            for threshold, (episode, _) in marks.get("crossed", {}).items():
                name = (scope, window, kind, "crossed", 0, Decimal(threshold), episode)
                if name not in self._named:
                    self.violate(f"{name} was not told, and is kept as told")

    def _observe_audit(self, q: int, record: AuditRecord) -> None:
        """What is told again of a request is the same."""
        first = self._audited.setdefault((q, record.offset), record)
        if record.partition != q or (record != first and not self._jumped):
            self.violate(f"audit of {q}@{record.offset}: {first}, and then {record}")

    def _check_sum(self, p: int, key: Key, entry: Entry) -> None:
        want = self.truth(p, key, entry.offset)
        if (entry.cost_nano, entry.executions) != want and not self._aged(key[1]):
            self.violate(f"partial {p} {key} @{entry.offset}: {entry}, the log says {want}")

    def _aged(self, window: str) -> bool:
        """Whether a window is old enough that records may have come too late for it."""
        if len(window) > 7:
            return window < (self.now - timedelta(days=39)).strftime("%Y-%m-%d")
        return window < (self.now - timedelta(days=395)).strftime("%Y-%m")

    def _observe_decision(self, q: int, key: bytes, value: bytes | None) -> None:
        if key == WATERMARK_KEY:
            assert value is not None
            self._check_watermark(q, decode_watermark(value).offsets)
        elif key.startswith(OUTCOME_PREFIX):
            assert value is not None
            outcome = decode_outcome(value)
            first = self._outcomes.setdefault(outcome.request_id, outcome)
            told = (outcome.accepted, outcome.version, outcome.reason)
            known = (first.accepted, first.version, first.reason)
            if told != known and not self._jumped:  # else what was answered was forgotten
                self.violate(f"request {outcome.request_id}: {first}, and then {outcome}")
        elif value is None:
            self._held.pop((q, key.decode()), None)
        else:
            self._check_decision(q, decode_decision(value))

    def _check_decision(self, q: int, decision: Decision) -> None:
        before = self._held.get((q, decision.scope))
        self._held[q, decision.scope] = decision
        made = next(r for r in self.requests[q] if r.request_id == decision.request_id)
        if made.action.endswith("_alerts"):
            config = self._configs.get(decision.scope)
            if (config is not None) != (made.action == "put_alerts"):
                self.violate(f"decision of {decision.scope} before the configuration {config}")
        for window, usage in decision.windows.items():
            key = (decision.scope, window)
            want = [self.truth(p, key, offset) for p, offset in usage.offsets.items()]
            total = (sum(nano for nano, _ in want), sum(n for _, n in want))
            if (usage.amounts.cost_nano, usage.executions) != total:
                self.violate(f"decision {key}: {usage}, its prefix says {total}")
            if before is not None and before.version == decision.version:
                old = before.windows.get(window)
                if old is not None and old.executions > usage.executions:
                    self.violate(f"decision {key} steps back: {old} to {usage}")
        if before is not None and before.version > decision.version:
            self.violate(f"version of {decision.scope} steps back")

    def _check_watermark(self, q: int, offsets: dict[int, int]) -> None:
        """No record that it claims is missing from a decision that a reader holds."""
        for (held_q, scope), decision in self._held.items():
            if held_q != q:
                continue
            day = decision.published_at.strftime("%Y-%m-%d")
            for window in {*decision.windows, day, day[:7]}:
                usage = decision.windows.get(window)
                for p, reach in offsets.items():
                    key = (scope, window)
                    up_to = -1 if usage is None else usage.offsets.get(p, -1)
                    contained = self.truth(p, key, up_to)
                    if self.truth(p, key, reach)[1] > contained[1]:
                        self.violate(f"watermark {q} claims {p}@{reach}, {key} has not")

    # -- the end

    def settle(self) -> None:
        """No more faults: everything is read, flushed and published."""
        rng = random.Random(1)
        self.wake(rng)
        self.rebalance(rng)
        for stage in [*self.stages] * SETTLE_ROUNDS + [self.stages[1]]:
            self.now += timedelta(milliseconds=5_100)
            for task in self._tasks(stage):
                for _ in range(4):
                    task.apply(rng, 1_000)
                task.flush(rng)
                task.step(100_000)

    def _tasks(self, stage: Stage) -> list[Task]:
        return [t for worker in self.workers for t in worker.tasks if t.stage is stage]

    def restart(self) -> None:
        """All workers die; the logs are compacted as far as they may be."""
        for worker in self.workers:
            worker.tasks, worker.frozen = [], False
        for at in list(self.broker.logs):
            if at[0].endswith("changelog"):
                self.broker.compact(at, self.broker.end(at))

    def check(self) -> None:
        """Compare with the independent count; raises AssertionError with what differs."""
        assert not self.violations, self.violations[:3]
        for worker in self.workers:
            for task in worker.tasks:
                assert isinstance(task.state, Partials | TotalsState)
                if isinstance(task.state, TotalsState):
                    self._check_totals(task.state)
                    if not self._jumped:  # else versions of deleted budgets were forgotten
                        self._check_budgets(task.state)
                        self._check_alerts(task.state)
                else:
                    self._check_partials(task.state)
                self._check_committed(task)
        letters = self.broker.logs[TOPICS.rejected, 0]
        assert {letter.key for letter in letters if letter} == self.rejects

    def _check_partials(self, state: Partials) -> None:
        """All scopes are counted, also those that no total is of."""
        counted = entries(state)
        for p, key in list(self._prefix):
            if p == state.partition and not self._aged(key[1]):
                assert counted.get(key, (0, 0)) == self.truth(p, key, 10**9), (p, key)

    def _check_totals(self, state: TotalsState) -> None:
        floor = floor_names(state.totals.floor.day) if state.totals.floor.day else ("", "")
        budgets = {s for s, kept in state.budgets.states.items() if kept.budget is not None}
        assert not state.budgets.awaited
        for key in {key for _, key in self._prefix}:
            if partition_of(key[0].encode(), Q) != state.partition:
                continue
            if "/agent:" in key[0] and key[0] not in budgets:
                continue  # nobody asks
            total = total_of(state.totals, *key)
            if key[1] < (floor[0] if len(key[1]) > 7 else floor[1]):
                assert total is None, f"{key} was to be forgotten"
                continue
            want = [self.truth(p, key, 10**9) for p in range(P)]
            nano, count = sum(n for n, _ in want), sum(c for _, c in want)
            if count:
                assert total is not None, f"{key} is not known, should be {nano}"
                assert (total[0].cost_nano, total[0].executions) == (nano, count), key

    def _check_budgets(self, state: TotalsState) -> None:
        """The requests in the order of their log, each once, decide the budgets."""
        q, seen = state.partition, set()
        budgets: dict[str, Had] = {}
        for offset, request in enumerate(self.requests[q]):
            if request.request_id in seen:
                assert (q, offset) not in self._audited, "a repeated request was audited"
                continue
            seen.add(request.request_id)
            before = budgets.get(request.scope, Had())
            after = budgets[request.scope] = _had_after(before, request)
            self._check_audit((q, offset), request, before, after)
        for scope, (limit, version, exists, thresholds) in budgets.items():
            kept = state.budgets.states[scope]
            assert (kept.version, kept.budget is not None) == (version, exists), scope
            assert (None if kept.alerts is None else kept.alerts.thresholds) == thresholds, scope
            config = self._configs.get(scope)
            assert (None if config is None else config.config) == kept.alerts, scope
            held = self._held.get((q, scope))
            assert (held is not None) == exists, scope
            if held is not None and kept.budget is not None:
                assert kept.budget.monthly_budget_usd == limit == held.budget.monthly_budget_usd
                self._check_held(state, held)
        assert seen <= set(self._outcomes), "a request was not answered"

    def _check_audit(
        self,
        at: TopicPartition,
        request: BudgetRequest,
        before: Had,
        after: Had,
    ) -> None:
        """The request at an offset was told of, with what it changed."""
        record = self._audited.get(at)
        assert record is not None, f"no audit of {at}: {request}"
        assert (record.request_id, record.scope) == (request.request_id, request.scope), at
        accepted = before != after
        assert (record.accepted, bool(record.reason)) == (accepted, not accepted), at
        assert record.version == (after.version if after.exists else 0), at
        for told, had in ((record.before, before), (record.after, after)):
            assert (told is not None) == had.exists, (at, record)
            assert told is None or told.monthly_budget_usd == had.limit, (at, record)
        for alerts, had in ((record.alerts_before, before), (record.alerts_after, after)):
            assert (None if alerts is None else alerts.thresholds) == had.thresholds, (at, record)

    def _check_held(self, state: TotalsState, held: Decision) -> None:
        """The decision that a reader holds shows the totals of its windows."""
        day = self.now.strftime("%Y-%m-%d")
        for window in (day, day[:7]):
            total = total_of(state.totals, held.scope, window)
            usage = held.windows.get(window)
            assert (total is None) == (usage is None), (held.scope, window)
            if total is not None and usage is not None:
                assert usage.amounts == total[0], (held.scope, window)

    def _check_alerts(self, state: TotalsState) -> None:
        """Each crossing of a current window was told, and by transactions once."""
        log = self.broker.logs[TOPICS.alerts, state.partition]
        records = [record for record in log if record is not None]
        told = [decode_alert(record.value or b"") for record in records]
        if self.rules.transactions:  # readers of uncommitted ones see some twice, after a crash
            lasting = [
                alert.alert_id
                for alert, record in zip(told, records, strict=True)
                if record.txn is not None and record.txn.status == "committed"
            ]
            assert len(set(lasting)) == len(lasting), "told twice"
        for scope, kept in state.budgets.states.items():
            limit = None if kept.budget is None else kept.budget.monthly_budget_usd
            if kept.budget is None:
                assert not any(scope in scopes for scopes in state.crossings.seen.values()), scope
            elif limit is not None:
                self._check_crossed(state, scope, limit, told)

    def _check_crossed(
        self, state: TotalsState, scope: str, limit: Decimal, told: list[Alert]
    ) -> None:
        month = self.now.strftime("%Y-%m")
        used = Fraction(sum(self.truth(p, (scope, month), 10**9)[0] for p in range(P)), 10**9)
        seen = state.crossings.seen.get(month, {}).get(scope)
        crossed = {} if seen is None or "cost" not in seen.limits else seen.limits["cost"].crossed
        thresholds = self._thresholds(scope)
        assert set(crossed) <= set(thresholds), scope
        for threshold in thresholds:
            at = Fraction(threshold) * Fraction(limit)
            if used >= at and used > 0:
                assert threshold in crossed, (scope, threshold, used, limit)
            if used < at * Fraction(19, 20):
                assert threshold not in crossed, (scope, threshold, used, limit)
        for threshold, mark in crossed.items():
            known = [
                (a.threshold, a.episode) for a in told if (a.scope, a.window) == (scope, month)
            ]
            assert (threshold, mark.episode) in known, (scope, threshold, mark)

    def _thresholds(self, scope: str) -> tuple[Decimal, ...]:
        """By the configurations that anybody may read: the own one, or the organization's."""
        for each in (scope, scope.partition("/")[0]):
            config = self._configs.get(each)
            if config is not None:
                return config.config.thresholds
        return tuple(map(Decimal, THRESHOLDS[0]))

    def _check_committed(self, task: Task) -> None:
        for topic in task.stage.sources:
            at = (topic, task.partition)
            records = self.broker.read(at, 0, self.broker.end(at))
            last = records[-1].offset if records else -1
            assert self.broker.committed.get(at, 0) > last or last == -1, at


def named(alert: Alert) -> tuple[object, ...]:
    """What an alert's id stands for; what is used, or is crossed with it, may be found anew."""
    recovery = alert.event == "budget.recovered"
    event = alert.event if recovery or alert.event == "budget.forecast" else "crossed"
    crossed = () if recovery else (alert.threshold, alert.episode)
    return (alert.scope, alert.window, alert.limit_kind, event, alert.repeat, *crossed)


def _had_after(had: Had, request: BudgetRequest) -> Had:
    """What a scope has after a request; the same if that is refused."""
    if request.expected_version not in (None, had.version if had.exists else 0):
        return had
    version = had.version + 1
    if request.action in ("put", "patch"):
        limit = Decimal(request.changes["monthly_budget_usd"])
        return had if limit < 0 else Had(limit, version, True, had.thresholds)
    if not had.exists:
        return had
    if request.action == "delete":
        return Had(None, version)
    if request.action == "delete_alerts":
        return had if had.thresholds is None else had._replace(version=version, thresholds=None)
    thresholds = tuple(map(Decimal, request.changes["thresholds"]))
    return had._replace(version=version, thresholds=thresholds)


def _no_writer(stage: str, partition: int):  # type: ignore[no-untyped-def]
    raise NotImplementedError("the world writes by itself")
