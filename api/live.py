"""Live: what an app keeps beside its feed, for answers that need more than its last state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from fastapi import FastAPI, Request

from api.decision_hub import DecisionHub
from api.problems import ProblemError
from api.transitions import Transitions
from outlay.feed import DecisionFeed
from outlay.gateway import BudgetGateway


@dataclass(frozen=True, slots=True)
class Live:
    """A gateway over the app's feed, the hub of its streams, and the changes of states seen."""

    gateway: BudgetGateway
    hub: DecisionHub
    transitions: Transitions
    now: Callable[[], datetime]

    @property
    def feed(self) -> DecisionFeed:
        """The feed that all of it goes by."""
        return self.gateway.feed


@contextmanager
def following(
    feed: DecisionFeed, gateway: BudgetGateway | None, now: Callable[[], datetime]
) -> Iterator[Live]:
    """All of it, over a feed; within the event loop that its streams are answered in.

    A gateway of one's own goes by the same feed.
    """
    if gateway is None:
        gateway = BudgetGateway(feed=feed, clock=lambda: now().timestamp())
    with DecisionHub(feed) as hub, Transitions(feed, now) as transitions:
        yield Live(gateway, hub, transitions, now)


async def live(request: Request) -> Live:
    """A dependency: what follows the feed of the app that a request came to.

    It awaits nothing: FastAPI has a thread run what is no coroutine, for each request anew.

    Raises:
        ProblemError: the feed has not caught up, or is none that can be followed.
    """
    found: Live | None = request.app.state.services.live
    if found is None or not found.feed.ready:
        raise ProblemError("feed-unavailable", "the decisions feed has not caught up yet")
    return found


def end_streams(app: FastAPI) -> None:
    """End the streams that are open: a server that stops waits for them, before the app may."""
    services = getattr(app.state, "services", None)
    if services is not None and services.live is not None:
        services.live.hub.close()
