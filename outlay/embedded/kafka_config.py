"""The files that one embedded Apache Kafka node reads: its settings and its logging."""

from collections.abc import Mapping
from pathlib import Path

from outlay.embedded.ports import LOOPBACK

NODE_ID = 1
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
INTERNAL_TOPIC_PARTITIONS = 8  # Kafka's 50 slow down the start of a small node
GROUP_SESSION_TIMEOUT_MS_MIN = 1_000
RETENTION_HOURS = 7 * 24  # for topics that do not say: Kafka's default
LOG_FILE_SIZE_MAX = "8MB"
LOG_FILES_KEPT = 2


def server_properties(data_dir: Path, port: int, controller_port: int) -> str:
    """The settings of a node that is broker and controller, reachable from this machine only.

    The controller quorum is the static kind, `controller.quorum.voters`: its addresses come from
    this file at each start, where a dynamic quorum would keep the first start's port in its log.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": log_dir(data_dir),
        # One node: every replica of everything is here.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": INTERNAL_TOPIC_PARTITIONS,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": INTERNAL_TOPIC_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": INTERNAL_TOPIC_PARTITIONS,
        # A group of one process need not wait for others to join.
        "group.initial.rebalance.delay.ms": 0,
        # On one machine a silent member is a dead one; Kafka's least is 6 s.
        "group.min.session.timeout.ms": GROUP_SESSION_TIMEOUT_MS_MIN,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "replica.fetch.max.bytes": MESSAGE_BYTES_MAX,
        "log.retention.hours": RETENTION_HOURS,
    }
    return _properties(settings)


def controller_properties(data_dir: Path, controller_port: int, session_timeout_ms: int) -> str:
    """The settings of the same node as a controller alone, for `kafka_recovery`."""
    return _properties(
        {
            "process.roles": "controller",
            "node.id": NODE_ID,
            "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
            "listeners": f"CONTROLLER://{LOOPBACK}:{controller_port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": log_dir(data_dir),
            "broker.session.timeout.ms": session_timeout_ms,
            "broker.heartbeat.interval.ms": session_timeout_ms // 2,
        }
    )


def logging_properties(log_path: Path) -> str:
    """Log4j 2's configuration: warnings and errors, into one file of bounded size, nothing else."""
    return f"""\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={_escaped(str(log_path))}
appender.file.filePattern={_escaped(str(log_path))}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %m (%c)%n
appender.file.policies.type=SizeBasedTriggeringPolicy
appender.file.policies.size={LOG_FILE_SIZE_MAX}
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max={LOG_FILES_KEPT}
rootLogger.level=warn
rootLogger.appenderRef.file.ref=file
"""


def log_dir(data_dir: Path) -> Path:
    """Where the node keeps its partitions and metadata."""
    return data_dir / "log"


def formatted(data_dir: Path) -> bool:
    """Whether the data directory was formatted; the tool writes this file last."""
    return (log_dir(data_dir) / "meta.properties").is_file()


def cluster_id(data_dir: Path) -> str:
    """The id that a formatted data directory's node answers with."""
    lines = (log_dir(data_dir) / "meta.properties").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


def stopped_cleanly(data_dir: Path) -> bool:
    """Whether the node's last end was an orderly one; it removes this file when it starts."""
    return (log_dir(data_dir) / ".kafka_cleanshutdown").is_file()


def _properties(settings: Mapping[str, object]) -> str:
    return "".join(f"{key}={_escaped(str(value))}\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As .properties files want it: backslashes doubled, and UTF-16 escapes for all but ASCII."""
    value = value.replace("\\", "\\\\")
    utf16 = value.encode("utf-16-be")
    units = [int.from_bytes(utf16[i : i + 2], "big") for i in range(0, len(utf16), 2)]
    return "".join(chr(unit) if unit < 0x80 else f"\\u{unit:04x}" for unit in units)
