"""API processes: our API beside an installation, and the bare one; what they take, and answers."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from bench.api_bare import PATH
from bench.installation import Installation
from outlay.apikey import Role
from outlay.embedded.ports import LOOPBACK, free_port
from outlay.keyfile import KeyFile
from outlay.stack import Process
from outlay.stack.readiness import answers_ok

READY_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.05
ANSWER_TIMEOUT_S = 5.0

ROLES: tuple[Role, ...] = ("emitter",)


class ApiProcess:
    """One process that answers HTTP, `url` being where to."""

    def __init__(self, process: Process, url: str, *, key: str = "") -> None:
        self._process = process
        self.url = url
        self.key = key

    def start(self, ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready.

        Raises:
            ChildFailed: it has ended, or is not ready in time; with the end of its log.
        """
        self._process.start()
        self._process.child.wait_until(ready, READY_TIMEOUT_S, poll_interval_s=POLL_INTERVAL_S)

    def stop(self) -> None:
        """Stop it; nothing happens to what does not run."""
        self._process.stop()

    def cpu_s(self) -> float:
        """How much processor time it has taken, in seconds."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to one request; 0 where there is none."""
        request = urllib.request.Request(
            self.url + path,
            body,
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""


def settings_of_api(directory: Path) -> dict[str, str]:
    """What an installation is to be given, so that `our_api` can be beside it.

    The history is a server's that is not there: beside one, it is kept by a process of its own,
    and the API asks it for reports alone.
    """
    return {
        "OUTLAY_API_KEYS_FILE": str(directory / "api-keys.json"),
        "OUTLAY_CLICKHOUSE_DSN": f"http://{LOOPBACK}:{free_port()}",
    }


def our_api(installation: Installation, organization_id: str) -> ApiProcess:
    """`python -m api` with the installation's settings, and a new key of an organization."""
    settings = installation.settings
    assert settings.keys_path is not None
    _, key = KeyFile(settings.keys_path).create("bench", organization_id, ROLES)
    process = Process("api", "api", env=_env(installation), log_dir=installation.directory)
    return ApiProcess(process, f"http://{LOOPBACK}:{settings.api_port}/api/v1", key=key)


def bare_api(log_dir: Path) -> ApiProcess:
    """The bare one, started."""
    port = free_port()
    process = Process("bare", "bench.api_bare", str(port), env={}, log_dir=log_dir)
    api = ApiProcess(process, f"http://{LOOPBACK}:{port}{PATH}")
    api.start(lambda: answers_ok(api.url))
    return api


def _env(installation: Installation) -> Mapping[str, str]:
    settings = installation.settings
    return {f"OUTLAY_{n.upper()}": str(getattr(settings, n)) for n in settings.model_fields_set}


def wait_for_answers(
    api: ApiProcess, path: str, expected: Mapping[bytes, bytes], timeout_s: float = READY_TIMEOUT_S
) -> None:
    """Wait until each body is answered with 200 and what is expected to be in the answer.

    Raises:
        RuntimeError: not within the time; with an answer that is another one.
    """
    deadline_s = time.monotonic() + timeout_s
    for body, mark in expected.items():
        while True:
            status, answer = api.post(path, body)
            if status == 200 and mark in answer:
                break
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{path} answers {status}: {answer[:500]!r}, not {mark!r}")
            time.sleep(POLL_INTERVAL_S)
