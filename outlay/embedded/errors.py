"""What can go wrong with an embedded broker or a child process.

EmbeddedError
├── ChildFailed        a child process ended, or was not ready in time
├── BrokerNotFound     nothing on this machine can serve as a broker
├── BrokerUnreachable  an external broker does not answer
└── JarsUnavailable    Apache Kafka's jars could not be fetched
"""


class EmbeddedError(RuntimeError):
    """Base of every error that `outlay.embedded` raises on purpose."""


class ChildFailed(EmbeddedError):
    """A child process could not be started, ended too early, or was not ready within its bound."""


class BrokerNotFound(EmbeddedError):
    """No broker can be had here; the message names every way to get one."""


class BrokerUnreachable(EmbeddedError):
    """The external broker did not answer a metadata request within its bound."""


class JarsUnavailable(EmbeddedError):
    """Apache Kafka's jars are not in the cache and could not be fetched."""
