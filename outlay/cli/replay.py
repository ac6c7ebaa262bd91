"""`outlay replay`: a trace becomes the usage of a fleet, sent to a running stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from outlay.emitter import Delivered, EmitterStats, UsageEmitter
from outlay.errors import OutlayError
from outlay.money import to_decimal, to_nano, to_usd
from outlay.topics import TopicNames
from outlay.trace import Call, Prices, Roster, Trace, usage_record
from outlay.usage import UsageRecord
from outlay.window import DAY_RETENTION_DAYS

BUFFERED_MAX = 20_000
"""How many records may wait for the broker before the next is read."""

STEP_RECORDS = 200
"""How many records are sent between two looks at the clock and at the buffer."""

BACKPRESSURE_PAUSE_S = 0.01
STUCK_TIMEOUT_S = 60.0
"""How long nothing may be delivered before it is given up."""

GIVE_UP_TIMEOUT_S = 2.0
"""How long what is on its way may still take after Ctrl-C, or once it is given up."""

PLAIN_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is sent, and how fast; `speed` is None for as fast as it goes."""

    file: Path
    speed: float | None
    organization_id: str
    roster: Roster
    prices: Prices
    keep_times: bool
    bootstrap_servers: str
    topics: TopicNames


class Sent:
    """The exact sums of what was delivered; `delivered` is the emitter's `on_delivered`."""

    def __init__(self) -> None:
        self.records = self.cost_nano = self.input_tokens = self.output_tokens = 0

    def delivered(self, details: Delivered) -> None:
        """Add the records of a message."""
        for record in details.records:
            self.records += 1
            self.cost_nano += to_nano(record.cost_usd)
            self.input_tokens += record.input_tokens
            self.output_tokens += record.output_tokens


def parse_speed(text: str) -> float | None:
    """A factor above zero, or None for `max`.

    Raises:
        ValueError: neither.
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ValueError(f"--speed takes a number above 0, or max, not {text!r}")
    return speed


def parse_price(text: str) -> Decimal:
    """USD per million tokens, not negative.

    Raises:
        ValueError: something else.
    """
    price_nano = to_nano(text)
    if price_nano < 0:
        raise ValueError(f"a price must not be negative: {text}")
    return to_decimal(price_nano)


def run_replay(options: ReplayOptions) -> int:
    """Send the trace; the exit code: 0 when every record was delivered, 1 otherwise.

    Raises:
        TraceError: the file is not a trace.
        OutlayError: the broker takes nothing.
        KeyboardInterrupt: Ctrl-C; what was left is said.
    """
    console = Console(highlight=False, soft_wrap=True)
    trace, sent = Trace(options.file), Sent()
    shift = timedelta(0) if options.keep_times else trace.shift_to_end(datetime.now(UTC))
    console.print(
        f"{trace.count:,} calls from {trace.first_at + shift:%Y-%m-%d %H:%M:%S} to "
        f"{trace.last_at + shift:%Y-%m-%d %H:%M:%S} UTC, to {options.bootstrap_servers}"
    )
    if trace.first_at + shift < datetime.now(UTC) - timedelta(days=DAY_RETENTION_DAYS):
        console.print("some are of windows that are forgotten: those go to the history alone")
    emitter = UsageEmitter(
        options.bootstrap_servers, topics=options.topics, on_delivered=sent.delivered
    )
    try:
        with _Progress(console, trace.count) as progress:
            for call in _paced(trace, options.speed):
                emitter.emit(_record(call, options, shift))
                if call.number % STEP_RECORDS == 0:
                    _wait_for_room(emitter)
                    progress.update(emitter.stats.sent)
            emitter.flush(STUCK_TIMEOUT_S)
            progress.update(emitter.stats.sent)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            console.print("interrupted")
        emitter.close(GIVE_UP_TIMEOUT_S)
        _conclude(console, sent, emitter.stats)
        unread = trace.count - emitter.stats.emitted
        if unread:
            console.print(f"{unread:,} calls of the trace were not begun")
        raise
    emitter.close()
    return _conclude(console, sent, emitter.stats)


def _record(call: Call, options: ReplayOptions, shift: timedelta) -> UsageRecord:
    return usage_record(
        call,
        organization_id=options.organization_id,
        roster=options.roster,
        prices=options.prices,
        shift=shift,
    )


def _paced(trace: Trace, speed: float | None) -> Iterator[Call]:
    """The calls, each at its time."""
    began_s = time.monotonic()
    for call in trace.calls():
        if speed is not None:
            due_s = (call.at - trace.first_at).total_seconds() / speed
            wait_s = began_s + due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
        yield call


def _wait_for_room(emitter: UsageEmitter) -> None:
    settled, since_s = -1, time.monotonic()
    while (stats := emitter.stats).buffered > BUFFERED_MAX:
        if stats.sent + stats.failed != settled:
            settled, since_s = stats.sent + stats.failed, time.monotonic()
        elif time.monotonic() - since_s > STUCK_TIMEOUT_S:
            raise OutlayError(f"nothing was delivered for {STUCK_TIMEOUT_S:g} s, it is given up")
        time.sleep(BACKPRESSURE_PAUSE_S)


def _conclude(console: Console, sent: Sent, stats: EmitterStats) -> int:
    console.print(
        f"sent {sent.records:,} records: {to_usd(sent.cost_nano)} USD, "
        f"{sent.input_tokens:,} input tokens, {sent.output_tokens:,} output tokens"
    )
    lost = stats.emitted - stats.sent
    if lost:
        console.print(
            f"{lost:,} were not: failed {stats.failed:,}, dropped {stats.dropped:,}, "
            f"invalid {stats.invalid:,}"
        )
    return 1 if lost else 0


class _Progress:
    """A progress bar in a terminal, and a line now and then elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._next_line_s = time.monotonic() + PLAIN_INTERVAL_S
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("sending"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("sending", total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, sent: int) -> None:
        """So many are delivered."""
        if self._bar is not None:
            self._bar.update(self._task, completed=sent)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_INTERVAL_S
            self._console.print(f"{sent:,} of {self._total:,}")
