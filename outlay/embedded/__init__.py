"""What `outlay up` and the tests run on: a Kafka-protocol broker and child processes, from Python.

`find_broker` gives the best broker to be had on this machine, `ChildProcess` starts, watches and
stops any other process. Imports nothing but the standard library and aiokafka.
"""

from outlay.embedded.broker import Broker, ExternalBroker, find_broker
from outlay.embedded.children import ChildProcess
from outlay.embedded.errors import (
    BrokerNotFound,
    BrokerUnreachable,
    ChildFailed,
    EmbeddedError,
    JarsUnavailable,
    PortInUse,
)
from outlay.embedded.kafka import KafkaBroker
from outlay.embedded.tansu import TansuBroker

__all__ = [
    "Broker",
    "BrokerNotFound",
    "BrokerUnreachable",
    "ChildFailed",
    "ChildProcess",
    "EmbeddedError",
    "ExternalBroker",
    "JarsUnavailable",
    "KafkaBroker",
    "PortInUse",
    "TansuBroker",
    "find_broker",
]
