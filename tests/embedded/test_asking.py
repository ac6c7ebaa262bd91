"""Whether a broker has transactions is known by its own word only."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    InvalidRequestError,
    KafkaConnectionError,
    TransactionalIdAuthorizationFailed,
    UnknownError,
    UnsupportedVersionError,
)

from outlay.embedded import BrokerUnreachable, ExternalBroker, asking
from outlay.embedded.ports import free_port

Play = Callable[..., list[Exception | None]]


@pytest.fixture
def broker_says(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Has tries end as given, the last again and again (None: with a producer id)."""

    def play(*ends: Exception | None) -> list[Exception | None]:
        left = list(ends)

        async def tried(*_: object) -> None:
            end = left.pop(0) if len(left) > 1 else left[0]
            if end is not None:
                raise end

        monkeypatch.setattr(asking, "_try_producer_id", tried)
        monkeypatch.setattr(asking, "RETRY_INTERVAL_S", 0.01)
        return left

    return play


@pytest.fixture(params=["nobody", "silent"])
def no_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where nobody is, or somebody who takes connections and says nothing."""
    if request.param == "nobody":
        yield f"127.0.0.1:{free_port()}"
        return
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_no_answer_is_not_a_no(no_broker: str) -> None:
    """A worker that took it for one would run unfenced, and nobody would know."""
    before_s = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=rf"{no_broker} has transactions .* after 1 s"):
        asking.supports_transactions(no_broker, 1.0)
    assert time.monotonic() - before_s < 3


def test_a_hiccup_is_asked_again(broker_says: Play) -> None:
    """Until there is an answer."""
    broker_says(
        OSError("reset"), TimeoutError(), KafkaConnectionError(), UnknownError(),
        GroupCoordinatorNotAvailableError(), None,
    )  # fmt: skip
    assert asking.supports_transactions("any:1", 5) is True


@pytest.mark.parametrize(
    "refusal",
    [
        IncompatibleBrokerVersion(),
        InvalidRequestError(),
        NotImplementedError(),
        UnsupportedVersionError(),
        UnknownError(),  # each time, as Tansu does
    ],
)
def test_a_refusal_is_a_no(broker_says: Play, refusal: Exception) -> None:
    """Also after a hiccup."""
    broker_says(OSError("reset"), refusal)
    assert asking.supports_transactions("any:1", 5) is False


def test_who_may_not_ask_does_not_know(broker_says: Play) -> None:
    """And is told at once: it would not change."""
    broker_says(TransactionalIdAuthorizationFailed())
    with pytest.raises(BrokerUnreachable, match="TransactionalIdAuthorizationFailed"):
        asking.supports_transactions("any:1", 5)


def test_an_external_broker_is_asked_until_it_has_said_so(broker_says: Play) -> None:
    """What is not known is not remembered."""
    broker = ExternalBroker("any:1")
    broker_says(TransactionalIdAuthorizationFailed())
    with pytest.raises(BrokerUnreachable):
        _ = broker.transactions
    broker_says(None)
    assert broker.transactions is True
    broker_says(InvalidRequestError())
    assert broker.transactions is True
