"""Asking a Kafka broker, from synchronous code, whether it answers and what it can do."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    BrokerResponseError,
    IncompatibleBrokerVersion,
    InvalidRequestError,
    KafkaError,
    NoError,
    UnknownError,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from outlay.embedded.errors import BrokerUnreachable

PROBE_TIMEOUT_S = 3.0  # one question; a broker that is still starting may accept and not answer
TRANSACTION_PROBE_TIMEOUT_S = 15.0  # a new cluster creates the transaction log first
TRANSACTION_REQUEST_TIMEOUT_S = 5.0  # one try of several: a connection may have been lost
TRANSACTION_TIMEOUT_MS = 10_000
RETRY_INTERVAL_S = 0.2
UNKNOWN_ERRORS_MIN = 5  # "unknown server error" so often in a row is a refusal, see Tansu

# What a broker without transactions says; NotImplementedError is aiokafka's for no common version.
_REFUSALS = (
    IncompatibleBrokerVersion,
    InvalidRequestError,
    NotImplementedError,
    UnsupportedVersionError,
)

_T = TypeVar("_T")


def answers(
    bootstrap_servers: str, timeout_s: float = PROBE_TIMEOUT_S, *, cluster_id: str | None = None
) -> bool:
    """Whether the broker answers a metadata request, and a member it names can be reached.

    A broker that is still fenced names no members; one that was moved, or is set up wrongly, names
    an address where nobody is. Neither counts, nor does a member of another cluster where
    `cluster_id` is given. At most `timeout_s`.
    """

    async def ask() -> bool:
        # A plain connection first: aiokafka logs an error for each refused one.
        await _connect_any(bootstrap_servers)
        async with _Client(bootstrap_servers, timeout_s) as client:
            nodes = [member.nodeId for member in client.cluster.brokers()]
            ready = [node for node in nodes if await client.ready(node)]
            if not ready or cluster_id is None:
                return bool(ready)
            metadata = await client.send(ready[0], MetadataRequest([]))
            return getattr(metadata, "cluster_id", None) == cluster_id

    try:
        return _run(ask, timeout_s)
    except (OSError, KafkaError, TimeoutError):
        return False


def supports_transactions(
    bootstrap_servers: str, timeout_s: float = TRANSACTION_PROBE_TIMEOUT_S
) -> bool:
    """Whether the broker gives out a producer id for a transactional producer.

    Asked by really doing it, since a broker may list `InitProducerId` and refuse it: Tansu answers
    "unknown server error" each time. It leaves one unused transactional id behind, which the broker
    forgets by itself (after 7 days by default). Whatever is no answer is asked again.

    Raises `BrokerUnreachable` when the broker has not said yes or no within `timeout_s`, or says
    neither, such as that this client is not allowed to ask.
    """
    transactional_id = f"outlay-probe-{uuid.uuid4()}"
    problem: object = "no answer"

    async def ask() -> bool:
        nonlocal problem
        unknown_errors = 0
        while True:
            try:
                await _try_producer_id(bootstrap_servers, transactional_id, timeout_s)
            except _REFUSALS:
                return False
            except (OSError, KafkaError) as error:
                if isinstance(error, UnknownError):
                    unknown_errors += 1
                    if unknown_errors >= UNKNOWN_ERRORS_MIN:
                        return False
                elif isinstance(error, BrokerResponseError) and not error.retriable:
                    raise
                else:  # lost on the way, or the coordinator is coming up
                    unknown_errors = 0
                problem = repr(error)
                await asyncio.sleep(RETRY_INTERVAL_S)
            else:
                return True

    unclear = f"whether the broker at {bootstrap_servers} has transactions"
    try:
        return _run(ask, timeout_s)
    except TimeoutError:
        raise BrokerUnreachable(
            f"{unclear} is not known after {timeout_s:g} s: {problem}"
        ) from None
    except KafkaError as error:
        raise BrokerUnreachable(f"{unclear} cannot be found out: {error!r}") from None


def wait_for_answer(bootstrap_servers: str, timeout_s: float) -> bool:
    """Ask again and again until the broker answers; False when it has not after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not answers(bootstrap_servers):
        if time.monotonic() >= deadline:
            return False
        time.sleep(RETRY_INTERVAL_S)
    return True


async def _try_producer_id(servers: str, transactional_id: str, timeout_s: float) -> None:
    """Ask once for a producer id; raises the KafkaError that the broker answers with, if any."""
    await _connect_any(servers)
    async with _Client(servers, min(timeout_s, TRANSACTION_REQUEST_TIMEOUT_S)) as client:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        request = InitProducerIdRequest(transactional_id, TRANSACTION_TIMEOUT_MS)
        error = for_code((await client.send(node, request)).error_code)
        if error is not NoError:
            raise error()


async def _connect_any(bootstrap_servers: str) -> None:
    """Open and close a connection to one of the servers; raises OSError when none accepts."""
    refused: OSError | None = None
    for host, port, _ in collect_hosts(bootstrap_servers):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            refused = error
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise refused or OSError("no servers named")


class _Client:
    """An `AIOKafkaClient` that is bootstrapped on entry and closed on exit."""

    def __init__(self, bootstrap_servers: str, timeout_s: float) -> None:
        self._client = AIOKafkaClient(
            bootstrap_servers=bootstrap_servers, request_timeout_ms=int(timeout_s * 1000)
        )

    async def __aenter__(self) -> AIOKafkaClient:
        try:
            await self._client.bootstrap()
        except BaseException:
            await self._client.close()
            raise
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def _run(question: Callable[[], Coroutine[Any, Any, _T]], timeout_s: float) -> _T:
    """Run a coroutine in a thread of its own: the caller may be inside an event loop."""
    future: Future[_T] = Future()

    async def bounded() -> _T:
        async with asyncio.timeout(timeout_s):
            return await question()

    def body() -> None:
        try:
            future.set_result(asyncio.run(bounded()))
        except BaseException as error:  # the caller is waiting for it
            future.set_exception(error)

    threading.Thread(target=body, name="outlay-ask-broker", daemon=True).start()
    return future.result()
