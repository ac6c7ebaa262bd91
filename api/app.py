"""The app: `create_app(settings)` puts feed, budgets, history and routes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import structlog
from fastapi import FastAPI

from api import budgets as budgets_routes
from api import health, metrics, problems, reports
from api.hosts import KnownHosts
from api.seams import Budgets, ClickHouseHistory, Feed, History
from api.services import Services
from outlay.budgets import BudgetClient
from outlay.feed import DecisionFeed
from schemas.settings import Settings
from streams.history_metrics import HistoryMetrics
from streams.history_sink import HistorySink

log = structlog.get_logger("outlay.api")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    *,
    feed: Feed | None = None,
    budgets: Budgets | None = None,
    history: History | None = None,
    now: Callable[[], datetime] = _utc_now,
    on_failure: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """The API. What is not given is made from the settings, started with the app and closed.

    Where the history is not given and is chDB, which one process can open, the app also runs the
    `HistorySink`; when that gives up, `on_failure` is called with its error.
    """
    measured = metrics.ApiMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            have = await _services(settings, stack, feed, budgets, history, now)
            measured.watch_feed(lambda: health.feed_age_s(have), lambda: have.feed.ready)
            if history is None and settings.history_is_embedded:
                sink_metrics = HistoryMetrics(measured.registry)
                have.sink = await stack.enter_async_context(
                    _sink(settings, sink_metrics, on_failure)
                )
            app.state.services = have
            yield

    app = FastAPI(title="outlay", version="1", lifespan=lifespan, redoc_url=None)
    app.state.metrics = measured
    problems.install(app)
    app.add_middleware(KnownHosts, settings=settings)
    app.add_middleware(metrics.Measured, metrics=measured)
    for routes in (budgets_routes, reports, health, metrics):
        app.include_router(routes.router)
    return app


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
    if budgets is None:
        assert isinstance(feed, DecisionFeed), "a feed of your own needs budgets of your own"
        client = BudgetClient(servers, feed, topics=topics, requested_by="api")
        budgets = await stack.enter_async_context(client)
    return Services(settings, feed, budgets, history, now)


@asynccontextmanager
async def _sink(
    settings: Settings,
    sink_metrics: HistoryMetrics,
    on_failure: Callable[[BaseException], None] | None,
) -> AsyncIterator[HistorySink]:
    sink = HistorySink(settings, metrics=sink_metrics)
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
