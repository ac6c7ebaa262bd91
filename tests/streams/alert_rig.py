"""One partition of the totals stage over logs that last, for tests of what it tells as alerts."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

import msgspec

from outlay.alert import Alert, decode_alert
from outlay.decision import BudgetRequest, encode
from outlay.topics import TopicNames
from schemas.messages import PartialsMessage
from streams import messages
from streams.batch import Batch
from tests.streams.flat import Entry, Flat, block_of, changelog, outputs
from tests.streams.simulated_broker import Record
from tests.streams.test_totals import new_totals

TOPICS = TopicNames()
SCOPE = "organization:acme/team:t"
ORGANIZATION = "organization:acme"
CHANGELOGS = ("T", "B", "A")


class Rig:
    """The stage, what its topics hold, and what it has told."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.logs: dict[str, list[bytes]] = {TOPICS.partials: [], TOPICS.budgets: []}
        self.tables: dict[str, dict[bytes, bytes]] = defaultdict(dict)
        self.committed = dict.fromkeys(self.logs, 0)
        self.published: list[Flat] = []
        self._offset = 0
        self.restart()

    def restart(self) -> None:
        """A new owner, with what the changelogs hold."""
        self.state = new_totals()
        for name in CHANGELOGS:
            records = [Record(0, key, value, 0) for key, value in self.tables[name].items()]
            self.state.load(name, records)
        ends = {topic: len(log) for topic, log in self.logs.items()}
        self.state.begin(dict(self.committed), ends)

    def use(self, used: dict[str, tuple[int, int]], scope: str = SCOPE) -> None:
        """A partition tells what the windows of a scope have used: nano-dollars and executions."""
        self._offset += 1
        entries = {w: {scope: Entry(self._offset, *amounts)} for w, amounts in used.items()}
        day = self.now.toordinal()
        self.logs[TOPICS.partials].append(
            messages.encode(PartialsMessage(0, day, self._offset, block_of(entries)))
        )

    def ask(self, action: Any, scope: str = SCOPE, **changes: Any) -> None:
        """A request to change a budget."""
        number = len(self.logs[TOPICS.budgets])
        request = BudgetRequest(
            request_id=f"r{number}", scope=scope, action=action, changes=changes
        )
        self.logs[TOPICS.budgets].append(encode(request))

    def apply(self) -> None:
        """Read what there is."""
        for topic, log in self.logs.items():
            start = self.state.positions[topic]
            now_ms = int(self.now.timestamp() * 1000)
            records = [Record(n, None, value, now_ms) for n, value in enumerate(log[start:], start)]
            if records:
                self.state.apply(Batch(topic, 0, records, start, start + len(records)))

    def flush(self, crash: str | None = None, *, saves: bool = True) -> list[Alert]:
        """Write what is to be written, or what of it comes before a crash; the alerts of it.

        Without `saves` it saves only where the clock says so.
        """
        self.apply()
        if self.state.budgets.awaited:  # a usage partition has heard of them by the next time
            wants = len(self.logs[TOPICS.budgets]) - 1
            told = PartialsMessage(0, 0, self._offset, wants=wants)
            self.logs[TOPICS.partials].append(messages.encode(told))
        plan = self.state.flush(int(self.now.timestamp() * 1000), last=saves)
        told: list[Flat] = []
        if plan is not None:
            told = outputs(plan)
            self.published += told
            written = [m.value for m in told if m.topic == TOPICS.partials]
            self.logs[TOPICS.partials] += [value for value in written if value is not None]
            if crash != "changelog":
                for message in changelog(plan):
                    self._write(message)
            if crash is None:
                for transaction in plan.transactions:
                    self.committed |= {t: at for (t, _), at in transaction.offsets.items()}
        if crash is not None:
            self.restart()
        return [decode_alert(m.value or b"") for m in told if m.topic == TOPICS.alerts]

    def _write(self, message: Flat) -> None:
        table = self.tables[message.topic]
        assert message.key is not None
        if message.value is None:
            table.pop(message.key, None)
        else:
            table[message.key] = message.value

    def kept(self) -> dict[str, Any]:
        """What the alerts table holds, by key."""
        return {key.decode(): msgspec.json.decode(v) for key, v in self.tables["A"].items()}
