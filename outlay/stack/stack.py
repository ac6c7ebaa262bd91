"""The stack: everything that runs on one machine, started and stopped in order."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from outlay.embedded import Broker, find_broker
from outlay.embedded.ports import LOOPBACK, free_port
from outlay.keyfile import FILE_NAME
from outlay.stack.errors import StackFailed
from outlay.stack.lock import DataDirLock
from outlay.stack.processes import Process, Worker
from outlay.stack.readiness import WorkersReady, answers_ok, wait_for
from outlay.topics import TopicNames

READY_TIMEOUT_S = 90.0

_PREFIX = "OUTLAY_"
_KEYS_FILE = f"{_PREFIX}API_KEYS_FILE"
_METRICS_PORT = f"{_PREFIX}METRICS_PORT"


def _silent(line: str) -> None:
    pass


class Stack:
    """A broker, stream workers, and the API with its history, as children of this process.

    A context manager: `with Stack(workers=2) as stack: stack.wait_ready()`. Methods are to be
    called from one thread; nothing is started when it is made.

    Args:
        data_dir: where broker, chDB and logs keep their files; a temporary directory by default,
            which is removed at the end.
        broker: the broker to run on; it is started, and stopped where `owns_broker`. By default
            the best to be had (`find_broker`), at `kafka_port`.
        owns_broker: whether `stop` stops the broker that was given.
        kafka_port: the embedded broker's TCP port; the usual or a free one by default.
        api: whether the API, with the history sink in it, is started.
        alerts: whether alerts are delivered.
        api_port: its TCP port on the loopback interface; a free one by default.
        auth: whether the API asks for keys, those of `keys_file`; otherwise it has `--no-auth`.
        workers: how many stream workers there are.
        metrics_port: the TCP port of the first worker's metrics, 0 for none; by default what
            `OUTLAY_METRICS_PORT` says. The others have none: they would meet at one.
        settings: settings of all processes, by the names of their environment variables.
        say: told of what happens, a line each.

    Raises:
        ServiceNotInstalled: the service is not here.
        EmbeddedError: no broker can be had.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        broker: Broker | None = None,
        owns_broker: bool = True,
        kafka_port: int | None = None,
        api: bool = True,
        api_port: int | None = None,
        alerts: bool = False,
        auth: bool = False,
        workers: int = 1,
        metrics_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = _silent,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix="outlay-", ignore_cleanup_errors=True
            )
            data_dir = Path(self._temporary.name)
        self.data_dir = data_dir.resolve()
        self.log_dir = self.data_dir / "logs"
        self._say = say
        self._data_dir_lock = DataDirLock(self.data_dir)
        self._owns_broker = owns_broker or broker is None
        self.broker = broker or find_broker(self.data_dir / "broker", port=kafka_port)
        self.api_port = api_port or free_port()
        self.keys_file = self.data_dir / FILE_NAME
        self.settings = self._all_settings(settings or {}, auth)
        self._metrics_port = (settings or {}).get(_METRICS_PORT, os.environ.get(_METRICS_PORT, ""))
        if metrics_port is not None:
            self._metrics_port = str(metrics_port)
        self.topics = TopicNames(self._setting("TOPIC_PREFIX") or TopicNames().prefix)
        self.workers = [
            Worker(index, env=self._worker_settings(index), log_dir=self.log_dir)
            for index in range(workers)
        ]
        no_auth = [] if self.settings[_KEYS_FILE] else ["--no-auth"]
        self.api = self._process("api", "api", *no_auth) if api else None
        # chDB serves one process, which is the API; a server has a history process beside it.
        self.history = self._process("history", "streams.history") if api and self._server else None
        self.alerts = self._process("alerts", "streams.alerts") if alerts else None

    def _process(self, name: str, module: str, *arguments: str) -> Process:
        return Process(name, module, *arguments, env=self.settings, log_dir=self.log_dir)

    def _setting(self, name: str) -> str:
        return (os.environ | self.settings).get(f"{_PREFIX}{name}", "")

    @property
    def _server(self) -> bool:
        """Whether the history is a ClickHouse server."""
        dsn = self._setting("CLICKHOUSE_DSN")
        return bool(dsn) and not dsn.startswith("chdb:")

    def _all_settings(self, given: Mapping[str, str], auth: bool) -> dict[str, str]:
        settings = {
            f"{_PREFIX}KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            f"{_PREFIX}DATA_DIR": str(self.data_dir),
            f"{_PREFIX}API_HOST": LOOPBACK,
            f"{_PREFIX}API_PORT": str(self.api_port),
            _KEYS_FILE: str(self.keys_file) if auth else "",
        } | dict(given)
        return settings | {_METRICS_PORT: "0"}  # see `_worker_settings`

    def _worker_settings(self, index: int) -> dict[str, str]:
        port = self._metrics_port if index == 0 else ""
        return self.settings | {_METRICS_PORT: port or "0"}

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address for clients."""
        return self.broker.bootstrap_servers

    @property
    def api_url(self) -> str:
        """Where the API answers, without a path."""
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def metrics_url(self) -> str | None:
        """Where the first worker's metrics are; None where they are not served."""
        if self._metrics_port in ("", "0"):
            return None
        return f"http://{self._setting('METRICS_HOST') or LOOPBACK}:{self._metrics_port}/metrics"

    @property
    def processes(self) -> list[Process]:
        """The service's processes, in the order in which they are stopped."""
        # Who asks goes before who answers, and the broker, which all need, at the very end.
        all_of_them = (self.api, self.history, self.alerts, *self.workers)
        return [process for process in all_of_them if process]

    def lock(self) -> None:
        """Take the data directory, which `start` does otherwise; `stop` lets go of it.

        Raises:
            DataDirInUse: another stack runs on it.
        """
        self._data_dir_lock.acquire()

    def start(self) -> None:
        """Start everything; returns when the broker answers, see `wait_ready` for the rest.

        Raises:
            DataDirInUse: another stack runs on the data directory.
            EmbeddedError: the broker or a process cannot be started.
        """
        self.lock()
        try:
            self.broker.start()
            for process in self.processes:
                process.start()
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S, *, tend: bool = False) -> None:
        """Wait until each partition's decisions are up to date, and the API answers.

        With `tend` a process that ends meanwhile is started again, as `tend` does.

        Raises:
            StackFailed: not within `timeout_s`, or a process has ended; with its log's end.
        """
        deadline_s = time.monotonic() + timeout_s
        check = self.tend if tend else self._check
        starts = [worker.started_at for worker in self.workers if worker.started_at]
        if starts:
            ready = WorkersReady(self.bootstrap_servers, self.topics, max(starts))
            try:
                if not wait_for(ready.poll, check, deadline_s):
                    raise self._not_ready("the workers", self.workers, timeout_s)
            finally:
                ready.close()
        if self.api is not None and not wait_for(
            lambda: answers_ok(f"{self.api_url}/readyz"), check, deadline_s
        ):
            raise self._not_ready("the API", [self.api], timeout_s)

    def tend(self) -> None:
        """Start again what has ended by itself; to be called every second or so.

        Raises:
            StackFailed: something ends again and again, or the broker is gone; with its log's end.
        """
        if self._broker_is_gone():
            # At once: without a broker the others take their time to stop.
            self._say("the broker ended by itself: the stack stops")
            raise StackFailed(f"the broker ended by itself; see its logs in {self.data_dir}")
        for process in self.processes:
            process.tend(self._say)

    def stop(self) -> None:
        """Stop everything, in order; nothing happens to what does not run."""
        with ExitStack() as last_first:  # what fails to stop must not keep the others running
            if self._temporary is not None:
                last_first.callback(self._temporary.cleanup)
            last_first.callback(self._data_dir_lock.release)
            if self._owns_broker:
                last_first.callback(self.broker.stop)
            for process in reversed(self.processes):
                last_first.callback(process.stop)

    def _check(self) -> None:
        for process in self.processes:
            if process.exit_code is not None and process.wanted:
                raise StackFailed(
                    f"{process.name} ended with exit code {process.exit_code}.\n"
                    f"{process.child.log_tail()}"
                )

    def _broker_is_gone(self) -> bool:
        # Only an embedded broker has a process of ours; an external one is watched by others.
        return self._owns_broker and hasattr(self.broker, "pid") and self.broker.pid is None

    def _not_ready(self, what: str, processes: Sequence[Process], timeout_s: float) -> StackFailed:
        tails = "\n".join(process.child.log_tail() for process in processes)
        return StackFailed(f"{what} were not ready within {timeout_s:g} s.\n{tails}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
