"""What can go wrong in the library.

OutlayError
├── TopicNotFound         a topic does not exist (yet)
├── FeedNotReady          the decisions feed has not caught up within its bound; a TimeoutError
├── BudgetRequestTimeout  what became of a budget request is not known; a TimeoutError
├── BudgetRefused         a budget request was refused
├── BudgetExceededError   a budget has no room for a call; also a ValueError
├── BudgetStoreFull       a `BudgetStore` in memory has no room left; in `outlay.governance`
├── ReservationClosed     a reservation was settled or released before
└── TooManyReservations   more calls are open at once than a gateway keeps room for

Wrong arguments are `ValueError`s.
"""

from __future__ import annotations


class OutlayError(Exception):
    """Base of every error that the library raises on purpose."""


class TopicNotFound(OutlayError):
    """A topic does not exist on the broker, or is not visible to this client."""


class FeedNotReady(OutlayError, TimeoutError):
    """The decisions feed has not caught up within the bound; the text says what it is at."""


class BudgetRequestTimeout(OutlayError, TimeoutError):
    """No outcome of a budget request was seen within the bound: it may still be carried out.

    `request_id` finds the outcome later (`DecisionFeed.wait_outcome`).
    """

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class BudgetRefused(OutlayError):
    """A budget request was refused: `reason` says why, `version` is the budget's (0: none)."""

    def __init__(self, reason: str, version: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.version = version


class BudgetExceededError(OutlayError, ValueError):
    """A call, or a training step, that a budget has no room for; the text says which and why.

    `result` is the answer that blocked it, where a check gave one (an `outlay.CheckResult`, or an
    `outlay.governance.BudgetCheckResult`).
    """

    def __init__(self, message: str, result: object | None = None) -> None:
        super().__init__(message)
        self.result = result


class ReservationClosed(OutlayError):
    """A reservation was settled or released before; it cannot be settled (again)."""


class TooManyReservations(OutlayError):
    """More calls are open at once than a gateway keeps reservations for."""
