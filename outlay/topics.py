"""Topics: their names, and which partition a key belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from aiokafka.partitioner import murmur2

AGENTS_CACHE_MAX = 131_072
"""How many agents' partitions are kept ready."""


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of all topics, under one prefix."""

    prefix: str = "outlay"

    @property
    def usage(self) -> str:
        return f"{self.prefix}.usage"

    @property
    def partials(self) -> str:
        return f"{self.prefix}.partials"

    @property
    def wants(self) -> str:
        return f"{self.prefix}.wants"

    @property
    def budgets(self) -> str:
        return f"{self.prefix}.budgets"

    @property
    def decisions(self) -> str:
        return f"{self.prefix}.decisions"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}.alerts"

    @property
    def alert_configs(self) -> str:
        return f"{self.prefix}.alerts.configs"

    @property
    def alert_deliveries(self) -> str:
        return f"{self.prefix}.alerts.deliveries"

    @property
    def alert_state(self) -> str:
        return f"{self.prefix}.alerts.state"

    @property
    def alerts_dead(self) -> str:
        return f"{self.prefix}.alerts.dead"

    @property
    def rejected(self) -> str:
        return f"{self.prefix}.usage.rejected"


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own clients choose it (murmur2)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def usage_key(organization_id: str, agent_id: str) -> bytes:
    """The key of a usage message: the agent, so that its records keep their order.

    >>> usage_key("acme", "writer 1")
    b'acme/writer%201'
    """
    return f"{quote(organization_id, safe='')}/{quote(agent_id, safe='')}".encode()


@lru_cache(maxsize=AGENTS_CACHE_MAX)
def usage_partition(organization_id: str, agent_id: str, partitions: int) -> int:
    """The partition of the usage topic that an agent's records go to."""
    return partition_of(usage_key(organization_id, agent_id), partitions)
