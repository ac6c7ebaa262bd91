"""The command line: its words, and what it says when a command cannot be carried out."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from outlay.cli import main
from outlay.cli.outcome import carry_out
from outlay.cli.replay import parse_speed
from outlay.embedded import ChildFailed
from outlay.embedded.ports import free_port
from outlay.errors import OutlayError
from outlay.stack import StackFailed


def outlay(*arguments, **environment):
    """Run `outlay` and return what it did."""
    return subprocess.run(
        [sys.executable, "-m", "outlay.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
    )


def test_every_command_explains_itself():
    """`outlay` alone names them all."""
    shown = outlay("--help")
    assert shown.returncode == 0
    jobs = ("up", "demo", "replay", "alerts", "budgets", "keys", "version")
    for command in (*jobs, "worker", "history", "api"):
        assert f" {command} " in shown.stdout
    assert "--budget" in outlay("alerts", "test", "--help").stdout
    assert "--keep-running" in outlay("demo", "--help").stdout
    assert "--keep-times" in outlay("replay", "--help").stdout
    assert "--data-dir" in outlay("up", "--help").stdout


def test_the_version_is_printed():
    """The package's own."""
    assert outlay("version").stdout.startswith("outlay 0.")


def test_without_the_extras_it_says_what_to_install(monkeypatch):
    """The library alone has no command line."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "typer" else find_spec(name)
    )
    with pytest.raises(SystemExit, match=r"needs typer: pip install 'outlay\[service\]'"):
        main()


def test_without_the_service_it_says_what_to_install(monkeypatch):
    """With the command line, but without what the processes need."""
    from outlay.stack import ServiceNotInstalled, service_command

    monkeypatch.delitem(sys.modules, "faust", raising=False)  # another test may have used it
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "faust" else find_spec(name)
    )
    with pytest.raises(ServiceNotInstalled, match=r"faust.*outlay\[service\]"):
        service_command("streams.worker")


def test_a_file_that_is_no_trace_is_one_line(tmp_path):
    """And exit code 1."""
    ended = outlay("replay", str(tmp_path / "none.csv"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("outlay: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_value_that_cannot_be_is_one_line(tmp_path):
    """And exit code 2, as for every wrong option."""
    ended = outlay("replay", "x.csv", "--speed", "fast")
    assert ended.returncode == 2
    assert "--speed takes a number above 0, or max, not 'fast'" in ended.stderr
    assert outlay("replay", "x.csv", "--agents", "3").returncode == 2
    assert "not an amount" in outlay("replay", "x.csv", "--input-price", "dear").stderr
    assert "negative" in outlay("replay", "x.csv", "--output-price", "-1").stderr
    assert outlay("demo", "--agents", "0").returncode == 2


def test_a_broker_that_is_not_there_is_one_line(tmp_path):
    """`up` does not go on without one."""
    ended = outlay("up", "--data-dir", str(tmp_path), OUTLAY_BROKER="rabbit")
    assert ended.returncode == 1
    assert "only 'kafka' and 'tansu' are known" in ended.stderr


def test_files_that_cannot_be_written_are_one_line(tmp_path):
    """And found before anything is started."""
    report = tmp_path / "none" / "report.json"
    for arguments in (("demo", "--report", str(report)), ("up", "--data-dir", "/dev/null/x")):
        ended = outlay(*arguments, OUTLAY_BROKER="kafka")
        assert ended.returncode == 1
        assert ended.stderr.startswith("outlay: ")
        assert len(ended.stderr.splitlines()) == 1
        assert "ready" not in ended.stdout


def test_up_joins_no_broker_that_is_not_its_own(tmp_path):
    """A port in use is one line, and nothing is begun."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        ended = outlay(
            "up", "--data-dir", str(tmp_path), "--kafka-port", port, "--api-port",
            str(free_port()), OUTLAY_BROKER="tansu",
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_an_interrupted_replay_ends_soon_and_says_what_was_left(tmp_path):
    """With the broker away, too."""
    trace = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:00:{n:02d},100,50" for n in range(60)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    command = [sys.executable, "-m", "outlay.cli", "replay", str(trace), "--speed", "10"]
    environment = os.environ | {"OUTLAY_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": "1"},
    ) as replay:
        assert replay.stdout.readline().startswith("60 calls")
        time.sleep(1)
        replay.send_signal(signal.SIGINT)
        before_s = time.monotonic()
        said, _ = replay.communicate(timeout=60)
    assert time.monotonic() - before_s < 8
    assert replay.returncode == 130
    assert said.startswith("interrupted\nsent 0 records")
    failed = int(re.search(r"(\d+) were not: failed", said)[1])
    unread = int(re.search(r"(\d+) calls of the trace were not begun", said)[1])
    assert failed + unread == 60


def test_a_worker_is_the_module_itself(tmp_path):
    """Its own exit code comes through: here the one for settings that cannot be."""
    ended = outlay("history", OUTLAY_LOG_LEVEL="loud")
    assert ended.returncode == 2
    assert "log_level" in ended.stderr


@pytest.mark.parametrize(
    ("ends_with", "code"),
    [
        (KeyboardInterrupt(), 130),
        (StackFailed("it is over"), 1),
        (ChildFailed("it is over"), 1),
        (OutlayError("it is over"), 1),
        (OSError("it is over"), 1),
        (ValueError("it is over"), 2),
    ],
)
def test_a_command_ends_with_a_code_and_a_line(ends_with, code, capsys):
    """Never with a traceback for what is expected."""

    def command():
        raise ends_with

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            carry_out(command)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == code
    assert capsys.readouterr().err == ("" if code == 130 else "outlay: it is over\n")


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("1", 1.0), ("2.5", 2.5)])
def test_speeds(text, speed):
    """A factor, or as fast as it goes."""
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "", "fast"])
def test_speeds_that_cannot_be(text):
    """Are refused."""
    with pytest.raises(ValueError, match="--speed"):
        parse_speed(text)


def test_which_dead_alerts_to_send_again_has_to_be_said():
    """Some, or all; not both, and not none."""
    for which in ([], ["--all", "--id", "alt_1"]):
        ended = outlay("alerts", "redeliver", *which)
        assert (ended.returncode, "name some with --id" in ended.stderr) == (2, True)
