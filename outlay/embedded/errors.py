"""What can go wrong with an embedded broker or a child process.

EmbeddedError
├── ChildFailed        a child process ended, or was not ready in time
├── BrokerNotFound     nothing on this machine can serve as a broker
├── BrokerUnreachable  a broker does not answer, or not what was asked
├── PortInUse          somebody listens on an embedded broker's port already
└── JarsUnavailable    Apache Kafka's jars could not be fetched
"""


class EmbeddedError(RuntimeError):
    """Base of every error that `outlay.embedded` raises on purpose."""


class ChildFailed(EmbeddedError):
    """A child process could not be started, ended too early, or was not ready within its bound."""


class BrokerNotFound(EmbeddedError):
    """No broker can be had here; the message names every way to get one."""


class BrokerUnreachable(EmbeddedError):
    """A broker did not answer within the bound, or what it answered leaves the question open."""


class PortInUse(EmbeddedError):
    """A port of an embedded broker is not free: most likely another stack runs there."""


class JarsUnavailable(EmbeddedError):
    """Apache Kafka's jars are not in the cache and could not be fetched."""
