"""The app: `create_app(settings)` puts feed, budgets, history and routes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from fastapi import FastAPI

from api import (
    alert_config,
    alert_log,
    audit,
    budget_listing,
    budget_resources,
    checks,
    decision_events,
    explain,
    ext_authz,
    headers,
    health,
    metrics,
    openapi,
    problems,
    reports,
    usage,
)
from api import budgets as budgets_routes
from api.alert_service import open_alerts
from api.brokers import ask_broker
from api.cors import Cors
from api.guard import Guard
from api.hosts import KnownHosts, is_loopback
from api.keys import Keyring
from api.live import following
from api.observing import Observed
from api.rates import RequestRate
from api.seams import Budgets, ClickHouseHistory, Feed, History, OwnAlerts
from api.services import Services
from outlay.budgets import BudgetClient
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway
from outlay.sending import KafkaSender, SenderFactory
from schemas.settings import Settings
from streams.history_metrics import HistoryMetrics
from streams.history_sinks import HistorySinks

log = structlog.get_logger("outlay.api")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    *,
    feed: Feed | None = None,
    budgets: Budgets | None = None,
    history: History | None = None,
    usage_sender: SenderFactory | None = None,
    gateway: BudgetGateway | None = None,
    own_alerts: OwnAlerts | None = None,
    alert_sender: SenderFactory | None = None,
    now: Callable[[], datetime] = _utc_now,
    on_failure: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """The API. What is not given is made from the settings, started with the app and closed.

    Where the history is not given and is chDB, which one process can open, the app also runs the
    `HistorySinks`; when that gives up, `on_failure` is called with its error.

    Without `api_keys_file` everybody may do everything, which is for loopback and for tests alone:
    the process does not start so unless it is told to.

    Raises:
        ValueError: there are no keys, and the address is not loopback; or the file of keys is none.
        OSError: the file of keys cannot be read.
    """
    measured = metrics.ApiMetrics()
    keys = None if settings.keys_path is None else Keyring(settings.keys_path)
    if keys is None and not is_loopback(settings.api_host):
        raise ValueError(f"an API without keys listens on loopback only, not {settings.api_host}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if keys is not None:
                stack.enter_context(keys)
                if keys.empty:
                    log.warning("no key is in force: all are refused until `outlay keys create`")
            have = await _services(settings, stack, feed, budgets, history, now)
            # With a feed of one's own, alerts are those that one gives, or none.
            is_ours = feed is None
            have.alerts = await open_alerts(settings, stack, own_alerts, alert_sender, is_ours)
            if isinstance(have.feed, DecisionFeed):
                have.live = stack.enter_context(following(have.feed, gateway, now))
                hub = have.live.hub
                measured.watch_streams(lambda: hub.streams)
            measured.watch_feed(
                lambda: health.feed_age_s(have),
                lambda: have.feed.ready,
                lambda: health.feed_lag_s(have),
            )
            if history is None and settings.history_is_embedded:
                sink_metrics = HistoryMetrics(measured.registry)
                have.sink = await stack.enter_async_context(
                    _sink(settings, sink_metrics, on_failure)
                )
            app.state.services = have
            app.state.usage = await stack.enter_async_context(
                aclosing(usage.UsageService(usage_sender or _usage_sender(settings), now))
            )
            measured.watch_usage(app.state.usage)
            yield

    # A redirect to the path without its last slash would say http behind a proxy that ends TLS, and
    # name whatever host the request does: a client that follows it sends its key there.
    app = FastAPI(
        title="outlay", version="1", lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    app.state.metrics = measured
    per_s = settings.api_requests_per_second_max
    app.state.authenticate = Guard(keys, measured, rate=RequestRate(per_s) if per_s else None)
    problems.install(app)
    openapi.install(app)
    if keys is None:  # a page in a browser knows no key, by whatever name it asks
        app.add_middleware(KnownHosts)
    if settings.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.cors_origins,
            allow_methods=headers.CORS_METHODS,
            allow_headers=headers.CORS_REQUEST_HEADERS,
            expose_headers=headers.CORS_ANSWER_HEADERS,
        )
    app.add_middleware(headers.SecureHeaders)
    app.add_middleware(Observed, metrics=measured)
    for routes in (budgets_routes, usage, reports, health, metrics):
        app.include_router(routes.router)
    for routes in (checks, ext_authz, decision_events, explain, audit, alert_log):
        app.include_router(routes.router)
    # Last: the path of a scope takes whatever comes behind it.
    for routes in (budget_listing, alert_config, budget_resources):
        app.include_router(routes.router)
    return app


def _usage_sender(settings: Settings) -> SenderFactory:
    return lambda: KafkaSender(settings.kafka_bootstrap_servers, settings.topics.usage)


async def _services(
    settings: Settings,
    stack: AsyncExitStack,
    feed: Feed | None,
    budgets: Budgets | None,
    history: History | None,
    now: Callable[[], datetime],
) -> Services:
    servers, topics = settings.kafka_bootstrap_servers, settings.topics
    if history is None:
        history = own_history = ClickHouseHistory(settings)
        stack.push_async_callback(own_history.close)
    if feed is None:
        own_feed = DecisionFeed(servers, topics=topics, stale_after_s=settings.stale_after_s)
        feed = await stack.enter_async_context(own_feed)
    asking: Callable[[], Awaitable[None]] | None = None
    if budgets is None:
        assert isinstance(feed, DecisionFeed), "a feed of your own needs budgets of your own"
        client = BudgetClient(servers, feed, topics=topics, requested_by="api")
        await stack.enter_async_context(client)
        budgets = client
        asking = partial(ask_broker, servers)
    return Services(settings, feed, budgets, history, now, ask_broker=asking)


@asynccontextmanager
async def _sink(
    settings: Settings,
    sink_metrics: HistoryMetrics,
    on_failure: Callable[[BaseException], None] | None,
) -> AsyncIterator[HistorySinks]:
    sink = HistorySinks(settings, metrics=sink_metrics)
    task = asyncio.create_task(sink.run())

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the history gives up", error=str(error) or repr(error))
            if on_failure is not None:
                on_failure(error)

    task.add_done_callback(ended)
    try:
        yield sink
    finally:
        sink.stop()
        await asyncio.wait([task])
