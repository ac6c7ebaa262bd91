"""Trace: real requests to a language model service, replayed as the usage of a fleet.

A trace is a CSV file with the columns `TIMESTAMP` (taken as UTC where it names no zone),
`ContextTokens` and `GeneratedTokens`, one row a request. It names no agents and no costs: those
are assigned here, from a row's number alone, and the tokens are priced at stated rates.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from outlay.errors import OutlayError
from outlay.money import to_decimal, to_nano
from outlay.usage import UsageRecord

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens."""


class TraceError(OutlayError, ValueError):
    """A file is not a trace; the message names the line."""


class Call(NamedTuple):
    """One request of a trace, by its number from 0."""

    number: int
    at: datetime
    input_tokens: int
    output_tokens: int


class Who(NamedTuple):
    """Whose call it is."""

    agent_id: str
    user_id: str
    team_id: str


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens, in and out."""

    input_usd: Decimal = Decimal("2.50")
    output_usd: Decimal = Decimal("10.00")

    def cost_nano(self, input_tokens: int, output_tokens: int) -> int:
        """The cost in nano-dollars, rounded half-even once."""
        exact = self.input_usd * input_tokens + self.output_usd * output_tokens
        return to_nano(exact / TOKENS_PER_PRICE)


@dataclass(frozen=True, slots=True)
class Roster:
    """Who there is, and who makes which call.

    A call's number decides its agent (by CRC-32, so that the calls are spread unevenly, and the
    same on every machine); an agent belongs to one user, and a user to one team.

    Raises:
        ValueError: a count below one, or fewer agents than users or users than teams: some of
            them would make no calls.
    """

    agents: int = 200
    users: int = 40
    teams: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.teams <= self.users <= self.agents:
            raise ValueError("there must be 1 <= teams <= users <= agents")

    def agent(self, number: int) -> Who:
        """The agent of this number, from 0."""
        user = number % self.users
        return Who(f"agent-{number:04d}", f"user-{user:03d}", f"team-{user % self.teams:02d}")

    def caller(self, call_number: int) -> Who:
        """Who makes the call of this number."""
        return self.agent(crc32(call_number.to_bytes(8, "big")) % self.agents)


class Trace:
    """A trace file: read once for its count and times when it is opened, then as often as needed.

    `first_at` and `last_at` are its earliest and its latest time; rows need not be in order.

    Raises:
        TraceError: no such file, not a trace, or an empty one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        for call in self.calls():
            if not self.count:
                self.first_at = self.last_at = call.at
            self.first_at, self.last_at = min(self.first_at, call.at), max(self.last_at, call.at)
            self.count += 1
        if not self.count:
            raise TraceError(f"{path} holds no calls")

    def calls(self) -> Iterator[Call]:
        """The calls in the order of the file."""
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
                if missing:
                    raise TraceError(f"{self.path} has no column {', '.join(missing)}")
                for number, row in enumerate(rows):
                    yield _call(self.path, number, row)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise TraceError(f"{self.path} cannot be read: {error}") from error

    def shift_to_end(self, end: datetime) -> timedelta:
        """What to add to its times so that it ends at `end`."""
        return end - self.last_at

    def shift_within_day(self, now: datetime) -> timedelta:
        """What to add so that it ends now; or, where it would begin before today, begins with it.

        Then its end is ahead of the clock, which the stream accepts up to a day. So all of a trace
        that is shorter than a day falls into one day and one month, whenever it is replayed.
        """
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return max(self.shift_to_end(now), today - self.first_at)


def usage_record(
    call: Call, *, organization_id: str, roster: Roster, prices: Prices, shift: timedelta
) -> UsageRecord:
    """The usage that a call is replayed as."""
    who = roster.caller(call.number)
    return UsageRecord.new(
        organization_id=organization_id,
        agent_id=who.agent_id,
        user_id=who.user_id,
        team_id=who.team_id,
        occurred_at=call.at + shift,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cost_usd=to_decimal(prices.cost_nano(call.input_tokens, call.output_tokens)),
    )


def _call(path: Path, number: int, row: dict[str, str]) -> Call:
    try:
        at, input_tokens, output_tokens = (row[name] for name in COLUMNS)
        return Call(number, parse_time(at), _tokens(input_tokens), _tokens(output_tokens))
    except (ValueError, TypeError, AttributeError) as error:
        raise TraceError(f"{path}, row {number + 1} after the header: {error}") from None


def parse_time(text: str) -> datetime:
    """A time of a trace: ISO 8601, UTC where it names no zone; beyond microseconds it is cut."""
    at = datetime.fromisoformat(text.strip())
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _tokens(text: str) -> int:
    tokens = int(text)
    if tokens < 0:
        raise ValueError(f"a token count must not be negative: {text}")
    return tokens
