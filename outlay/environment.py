"""Environment: how the library finds its service, by the variables that the service itself reads.

Their names, defaults and meanings are those of the service's settings; a test compares them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from aiokafka.conn import collect_hosts

from outlay.feed import STALE_AFTER_S
from outlay.topics import TopicNames

SERVERS_VARIABLE = "OUTLAY_KAFKA_BOOTSTRAP_SERVERS"
PREFIX_VARIABLE = "OUTLAY_TOPIC_PREFIX"
STALE_VARIABLE = "OUTLAY_STALE_AFTER_S"

SECONDS_MAX = 86_400.0
"""The longest bound that a setting may name, in seconds."""

PORT_MAX = 65_535

_is_prefix = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the service is, and when its decisions count as out of date.

    Args:
        bootstrap_servers: Kafka brokers to ask first, `host:port`, several separated by commas.
        topics: the names of the topics.
        stale_after_s: how long the decisions feed may be silent, in seconds.

    Raises:
        ValueError: a value that cannot be.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    topics: TopicNames = field(default_factory=TopicNames)
    stale_after_s: float = STALE_AFTER_S

    def __post_init__(self) -> None:
        check_servers("bootstrap_servers", self.bootstrap_servers)
        if not isinstance(self.topics, TopicNames):
            raise ValueError(f"topics must be TopicNames, not {self.topics!r}")
        check_seconds("stale_after_s", self.stale_after_s)

    @classmethod
    def read(
        cls,
        variables: Mapping[str, str] | None = None,
        *,
        bootstrap_servers: str | None = None,
        topics: TopicNames | None = None,
        stale_after_s: float | None = None,
    ) -> Self:
        """What is given, and for the rest what the variables say (`os.environ`), or the defaults.

        Raises:
            ValueError: a value that cannot be; the text names the variable.
        """
        variables = os.environ if variables is None else variables
        if bootstrap_servers is None:
            bootstrap_servers = variables.get(SERVERS_VARIABLE, cls().bootstrap_servers)
            check_servers(SERVERS_VARIABLE, bootstrap_servers)
        if topics is None:
            topics = TopicNames(_prefix(variables.get(PREFIX_VARIABLE, TopicNames().prefix)))
        if stale_after_s is None:
            stale_after_s = _seconds(variables.get(STALE_VARIABLE, str(STALE_AFTER_S)))
        return cls(bootstrap_servers, topics, stale_after_s)


def check_servers(name: str, servers: object) -> None:
    """See that brokers are named as they must be.

    Raises:
        ValueError: they are not; the text begins with `name`.
    """
    wanted = f"{name} must be host:port, several separated by commas, not {servers!r}"
    if not isinstance(servers, str):
        raise ValueError(wanted)
    try:
        hosts = collect_hosts(servers)
    except ValueError:
        raise ValueError(wanted) from None
    if not all(host and 0 < port <= PORT_MAX for host, port, _ in hosts):
        raise ValueError(wanted)


def check_seconds(name: str, seconds: object) -> None:
    """See that a bound in seconds is above 0 and at most `SECONDS_MAX`.

    Raises:
        ValueError: it is not; the text begins with `name`.
    """
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= SECONDS_MAX
    ):
        raise ValueError(
            f"{name} must be a number of seconds above 0 and at most {SECONDS_MAX:g},"
            f" not {seconds!r}"
        )


def _prefix(prefix: str) -> str:
    if not _is_prefix(prefix):
        raise ValueError(
            f"{PREFIX_VARIABLE} must have 1 to 100 letters, digits, dots, underscores and hyphens,"
            f" not {prefix!r}"
        )
    return prefix


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{STALE_VARIABLE} must be a number of seconds, not {text!r}") from None
    check_seconds(STALE_VARIABLE, seconds)
    return seconds
