"""What can go wrong in the library.

OutlayError
├── TopicNotFound         a topic does not exist (yet)
├── FeedNotReady          the decisions feed has not caught up within its bound; a TimeoutError
├── BudgetRequestTimeout  what became of a budget request is not known; a TimeoutError
└── BudgetRefused         a budget request was refused

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
