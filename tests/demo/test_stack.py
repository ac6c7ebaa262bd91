"""The embedded stack's parts: processes kept running in bounds, one stack a directory."""

import subprocess
import sys
import time

import pytest

from outlay.embedded import ExternalBroker
from outlay.stack import DataDirInUse, Process, Stack, StackFailed, Worker, service_command
from outlay.stack import processes as processes_module
from outlay.stack.lock import DataDirLock

SERVES = "import time\nprint('serving', flush=True)\nwhile True: time.sleep(0.05)\n"


@pytest.fixture
def process(tmp_path):
    """Makes processes of modules with the given source; all have ended at the end."""
    made = []

    def make(source):
        (tmp_path / "stand_in.py").write_text(source)
        env = {"PYTHONPATH": str(tmp_path)}
        made.append(Process("stand-in", "stand_in", env=env, log_dir=tmp_path / "logs"))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def never(line):
    raise AssertionError(line)


def test_a_process_that_ends_by_itself_is_started_again(process):
    """And it is said, with how it ended."""
    ends = process("import sys; sys.exit(75)")
    ends.start()
    wait_until(lambda: ends.exit_code == 75)
    said = []
    ends.tend(said.append)
    assert ends.exit_codes == [75]
    assert said == ["stand-in ended with exit code 75 and was started again"]
    wait_until(lambda: ends.exit_codes == [75] and ends.exit_code == 75)
    assert ends.exit_codes == [75, 75]


def test_restarts_are_bounded(process, monkeypatch):
    """Then it is given up, with the end of its log."""
    monkeypatch.setattr(processes_module, "RESTARTS_MAX", 2)
    ends = process("import sys; sys.exit('something is wrong')")
    ends.start()
    said = []
    wait_until(lambda: ends.exit_code is not None)
    ends.tend(said.append)
    wait_until(lambda: ends.exit_code is not None)
    ends.tend(said.append)
    wait_until(lambda: ends.exit_code is not None)
    with pytest.raises(StackFailed, match="something is wrong"):
        ends.tend(said.append)
    assert len(said) == 2
    assert ends.exit_codes == [1, 1, 1]


def test_restarts_of_long_ago_do_not_count(process, monkeypatch):
    """The bound is for a window of time."""
    monkeypatch.setattr(processes_module, "RESTARTS_MAX", 1)
    monkeypatch.setattr(processes_module, "RESTART_WINDOW_S", 0.0)
    ends = process("import sys; sys.exit(1)")
    ends.start()
    said = []
    while len(said) < 3:
        ends.tend(said.append)
        time.sleep(0.01)


def test_settings_that_cannot_be_are_not_tried_again(process):
    """It is given up at once, with the end of the log."""
    ends = process("import sys; print('log_level: loud'); sys.exit(2)")
    ends.start()
    wait_until(lambda: ends.exit_code is not None)
    with pytest.raises(StackFailed, match=r"(?s)exit code 2: its settings.*log_level: loud"):
        ends.tend(never)
    assert ends.exit_codes == [2]
    ends.tend(never)


def test_a_broker_that_ended_is_told_before_the_rest_is_stopped(tmp_path):
    """Stopping takes its time without a broker."""
    broker = ExternalBroker("broker:9092")
    broker.pid = None  # as of an embedded one that has ended
    said = []
    stack = Stack(tmp_path, broker=broker, say=said.append)
    with pytest.raises(StackFailed, match="the broker ended by itself"):
        stack.tend()
    assert said == ["the broker ended by itself: the stack stops"]


def test_what_is_ended_on_purpose_stays_down(process):
    """By kill or by stop; and its exit code tells which."""
    serves = process(SERVES)
    serves.start()
    assert serves.kill() == -9
    serves.tend(never)
    assert not serves.running
    serves.start()
    assert serves.stop() == -15
    serves.tend(never)
    assert serves.exit_codes == [-9, -15]


def test_a_paused_process_stands_still_until_it_is_resumed(process, tmp_path):
    """It runs for the system, and does nothing."""
    counts = process(
        "import pathlib, time\n"
        f"path = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "for n in range(10**6):\n"
        "    path.write_text(str(n)); time.sleep(0.01)\n"
    )
    counts.start()
    wait_until((tmp_path / "count").exists)
    counts.pause()
    time.sleep(0.1)
    before = (tmp_path / "count").read_text()
    time.sleep(0.2)
    assert (tmp_path / "count").read_text() == before
    assert counts.running
    counts.tend(never)
    counts.resume()
    wait_until(lambda: (tmp_path / "count").read_text() not in ("", before))


def test_a_paused_process_can_be_stopped(process):
    """It is resumed for that, so that it ends in order."""
    serves = process(SERVES)
    serves.start()
    wait_until(lambda: "serving" in serves.child.log_tail())
    serves.pause()
    assert serves.stop() == -15


def test_workers_have_numbers(tmp_path):
    """And a log of their own each."""
    workers = [Worker(index, env={}, log_dir=tmp_path) for index in range(2)]
    assert [worker.name for worker in workers] == ["worker-0", "worker-1"]
    assert workers[1].child.log_path == tmp_path / "worker-1.log"


def test_a_data_directory_has_one_stack(tmp_path):
    """Another process is told who has it; whoever lets go makes room."""
    lock = DataDirLock(tmp_path / "new" / "dir")
    lock.acquire()
    lock.acquire()
    other = (
        "import sys, pathlib\n"
        "from outlay.stack.lock import DataDirLock\n"
        "DataDirLock(pathlib.Path(sys.argv[1])).acquire()\n"
    )
    command = [sys.executable, "-c", other, str(tmp_path / "new" / "dir")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 1
    assert "is in use by another" in refused.stderr
    with pytest.raises(DataDirInUse):
        DataDirLock(tmp_path / "new" / "dir").acquire()
    lock.release()
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_a_command_is_this_python_with_the_module():
    """No other Python may be first on the path."""
    assert service_command("streams.worker") == (sys.executable, "-m", "streams.worker")


def test_the_settings_reach_every_process(tmp_path, monkeypatch):
    """What is given goes before what the stack would say, and the topics follow."""
    monkeypatch.delenv("OUTLAY_CLICKHOUSE_DSN", raising=False)
    stack = Stack(
        tmp_path,
        broker=ExternalBroker("broker:9092"),
        workers=2,
        api_port=12_345,
        settings={"OUTLAY_TOPIC_PREFIX": "mine", "OUTLAY_METRICS_PORT": "9"},
    )
    assert stack.settings == {
        "OUTLAY_KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
        "OUTLAY_DATA_DIR": str(tmp_path),
        "OUTLAY_API_HOST": "127.0.0.1",
        "OUTLAY_API_PORT": "12345",
        "OUTLAY_API_KEYS_FILE": "",
        "OUTLAY_METRICS_PORT": "0",
        "OUTLAY_TOPIC_PREFIX": "mine",
    }
    assert stack.topics.usage == "mine.usage"
    assert stack.api_url == "http://127.0.0.1:12345"
    assert [process.name for process in stack.processes] == ["api", "worker-0", "worker-1"]


@pytest.mark.parametrize("auth", [True, False])
def test_the_api_asks_for_keys_where_it_is_told_to(tmp_path, monkeypatch, auth):
    """For those of the data directory, and without is said to it; no environment decides that."""
    monkeypatch.setenv("OUTLAY_API_KEYS_FILE", "/somebody/elses.json")
    stack = Stack(tmp_path, broker=ExternalBroker("broker:9092"), auth=auth)
    child = stack.api.child
    keys_file = str(tmp_path / "keys.json") if auth else ""
    assert child._env["OUTLAY_API_KEYS_FILE"] == keys_file
    assert child.argv[-1] == ("api" if auth else "--no-auth")


@pytest.mark.parametrize(
    ("environment", "settings", "given", "port"),
    [
        (None, {}, None, "0"),
        ("9100", {}, None, "9100"),
        ("9100", {"OUTLAY_METRICS_PORT": "9"}, None, "9"),
        ("9100", {}, 8, "8"),
    ],
)
def test_the_first_worker_has_the_metrics_port(
    tmp_path, monkeypatch, environment, settings, given, port
):
    """The others would meet at it."""
    monkeypatch.delenv("OUTLAY_METRICS_PORT", raising=False)
    monkeypatch.delenv("OUTLAY_METRICS_HOST", raising=False)
    if environment is not None:
        monkeypatch.setenv("OUTLAY_METRICS_PORT", environment)
    broker = ExternalBroker("broker:9092")
    stack = Stack(tmp_path, broker=broker, workers=2, metrics_port=given, settings=settings)
    ports = [process.child._env["OUTLAY_METRICS_PORT"] for process in stack.processes]
    assert ports == ["0", port, "0"]
    url = None if port == "0" else f"http://127.0.0.1:{port}/metrics"
    assert stack.metrics_url == url


def test_a_clickhouse_server_gets_a_history_process(tmp_path, monkeypatch):
    """With chDB the API keeps the history; a server needs somebody else."""
    monkeypatch.setenv("OUTLAY_CLICKHOUSE_DSN", "clickhouse://somewhere:8123")
    stack = Stack(tmp_path, broker=ExternalBroker("broker:9092"))
    assert [process.name for process in stack.processes] == ["api", "history", "worker-0"]


def test_alerts_are_delivered_where_they_are_asked_for(tmp_path):
    """They stop before the workers, whose alerts they take, and serve no metrics at one port."""
    stack = Stack(tmp_path, broker=ExternalBroker("broker:9092"), alerts=True, metrics_port=9100)
    assert [process.name for process in stack.processes] == ["api", "alerts", "worker-0"]
    assert stack.alerts.child._env["OUTLAY_METRICS_PORT"] == "0"


def test_a_temporary_directory_goes_with_the_stack(monkeypatch):
    """Where none is named."""
    stack = Stack(broker=ExternalBroker("broker:9092"))
    assert stack.data_dir.is_dir()
    stack.stop()
    assert not stack.data_dir.exists()
