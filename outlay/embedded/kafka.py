"""Apache Kafka as a child process: one node in KRaft mode, from the jars on Maven Central."""

import base64
import subprocess
import uuid
from pathlib import Path

from outlay.embedded import asking, kafka_config, kafka_jars, kafka_recovery
from outlay.embedded.children import ChildProcess
from outlay.embedded.errors import BrokerNotFound, ChildFailed
from outlay.embedded.ports import LOOPBACK, check_free, free_port

START_TIMEOUT_S = 60.0  # after a crash every partition's log is checked first
STOP_TIMEOUT_S = 20.0
FORMAT_TIMEOUT_S = 60.0
HEAP_MB = 512

_JVM_FLAGS = (
    "-server",
    "-Djava.awt.headless=true",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    # Better gone than limping: the parent sees it and can start it again.
    "-XX:+ExitOnOutOfMemoryError",
    # No counters in a memory-mapped file of the temporary directory, a known cause of pauses.
    "-XX:-UsePerfData",
)
# Formatting ends within a second or two: the full compiler would not pay.
_TOOL_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_MAIN = "kafka.Kafka"


class KafkaBroker:
    """One embedded node of Apache Kafka, bound to 127.0.0.1, its data kept in `data_dir`.

    The data outlives the process, a SIGKILL of it, and a change of ports. What the machine itself
    loses when it crashes is up to the operating system's write-back: with one node there is no
    other replica. The ports stay the same while this object lives, so clients find a restarted
    broker again. A start after a crash takes about twice as long: see `kafka_recovery`.
    """

    transactions = True
    durable = True

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        heap_mb: int = HEAP_MB,
    ) -> None:
        """Describe the broker; nothing is fetched or started yet.

        `port` and `controller_port` are TCP ports on the loopback interface, free ones by default;
        `heap_mb` bounds Java's heap, in MiB.
        """
        self.data_dir = data_dir.resolve()
        self.port = free_port() if port is None else port
        self._controller_port = free_port() if controller_port is None else controller_port
        self._heap_mb = heap_mb
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"Apache Kafka {kafka_jars.KAFKA_VERSION} (KRaft, embedded)"

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the running broker; None when it does not run."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the broker and return when it answers; nothing happens when it runs.

        Fetches the jars the first time (see `kafka_jars.ensure_jars`) and formats a new data
        directory. Raises `BrokerNotFound` without Java, `JarsUnavailable`, `PortInUse`, and
        `ChildFailed`, with the end of its log, when it ends or does not answer within
        `START_TIMEOUT_S`.
        """
        if self._child is not None and self._child.running:
            return
        java = kafka_jars.find_java()
        if java is None:
            raise BrokerNotFound(f"{self.name} needs java >= {kafka_jars.JAVA_VERSION_MIN}")
        classpath = str(kafka_jars.ensure_jars() / "*")
        # It binds its ports late: until then the clients would have whoever listens there.
        for port in (self.port, self._controller_port):
            check_free(port, self.name)
        self._write_files()
        if not kafka_config.formatted(self.data_dir):
            self._format((java, *_TOOL_FLAGS, _logging(self._logging_path), "-cp", classpath))
        elif not kafka_config.stopped_cleanly(self.data_dir):
            self._recover((java, *_TOOL_FLAGS), classpath)
        heap = (f"-Xms{self._heap_mb}m", f"-Xmx{self._heap_mb}m")
        flags = (*heap, *_JVM_FLAGS, _logging(self._logging_path))
        self._child = ChildProcess(
            self.name,
            (java, *flags, "-cp", classpath, _MAIN, str(self._properties_path)),
            log_path=self.data_dir / "kafka.out",
            more_logs=(self._log_path,),
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        self._child.start()
        try:
            self._child.wait_until(self._answers, START_TIMEOUT_S)
        except BaseException:
            self._child.kill()
            raise

    def stop(self) -> None:
        """End the broker: SIGTERM, and SIGKILL after `STOP_TIMEOUT_S`. Its data stays."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the broker at once with SIGKILL, as a crash would; for tests of recovery."""
        if self._child is not None:
            self._child.kill()

    def _answers(self) -> bool:
        """Whether it is this node that answers, not one that took the port in the meantime."""
        cluster_id = kafka_config.cluster_id(self.data_dir)
        return asking.answers(self.bootstrap_servers, cluster_id=cluster_id)

    @property
    def _properties_path(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "kafka.log"

    @property
    def _logging_path(self) -> Path:
        return self.data_dir / "log4j2.properties"

    def _write_files(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        settings = kafka_config.server_properties(self.data_dir, self.port, self._controller_port)
        self._properties_path.write_text(settings)
        self._logging_path.write_text(kafka_config.logging_properties(self._log_path))

    def _recover(self, java: tuple[str, ...], classpath: str) -> None:
        """After a crash, have the broker fenced before it starts: see `kafka_recovery`."""
        settings = kafka_recovery.write_files(self.data_dir, self._controller_port)
        logging = _logging(kafka_recovery.logging_path(self.data_dir))
        controller = ChildProcess(
            f"{self.name}: its controller, after a crash",
            (*java, logging, "-cp", classpath, _MAIN, str(settings)),
            log_path=self.data_dir / "kafka.out",
            more_logs=(kafka_recovery.log_path(self.data_dir),),
        )
        kafka_recovery.fence(controller, self.data_dir)

    def _format(self, java: tuple[str, ...]) -> None:
        """Write the node's first metadata into an empty data directory."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ("format", f"--cluster-id={cluster_id}", "--ignore-formatted")
        try:
            run = subprocess.run(
                (*java, "kafka.tools.StorageTool", *arguments, f"--config={self._properties_path}"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=FORMAT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ChildFailed(
                f"{self.data_dir} was not formatted within {FORMAT_TIMEOUT_S:g} s"
            ) from error
        if run.returncode != 0:
            raise ChildFailed(f"{self.data_dir} cannot be formatted:\n{run.stdout.strip()}")


def _logging(configuration: Path) -> str:
    return f"-Dlog4j2.configurationFile={configuration}"
