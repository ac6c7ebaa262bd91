"""What can go wrong between this client and the API.

ApiError                 all of them; `method`, `path` and `request_id` say of which request
├── NoAnswer             no answer came: what became of the request may not be known
│   └── AnswerTimedOut   none came in time; also a TimeoutError
├── UnreadableAnswer     an answer that is not the API's: no JSON, broken off, too large, a redirect
└── Problem              the API says what is wrong (RFC 9457); those of other statuses are this
    ├── Unauthorized     401: there is no key in force in the request
    ├── Forbidden        403: the key is for other things
    ├── NotFound         404: there is none, or it is another organization's
    ├── Conflict         409: it cannot be done to what there is now
    ├── VersionMismatch  412: the budget has another version than was expected
    ├── BodyTooLarge     413: the body of the request is over its bound
    ├── InvalidRequest   422: `errors` names what is wrong
    ├── TooManyRequests  429: `retry_after_s` says when to come back
    └── Unavailable      503: what is needed for an answer is not there now

An `ApiError` is an `OutlayError`. Wrong arguments are `ValueError`s, and nothing is sent then. No
text of an error holds the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from outlay.errors import OutlayError


class ErrorPart(msgspec.Struct, frozen=True):
    """Which part of a request is wrong (`query.from`, `body.monthly_budget_usd`), and why."""

    location: str = ""
    message: str = ""


class ApiError(OutlayError):
    """Base of every error of a request.

    `request_id` was sent with it as `X-Request-ID`: the server's log has it, too.
    """

    def __init__(self, message: str, *, method: str, path: str, request_id: str) -> None:
        super().__init__(f"{message} ({method} {path}, request id {request_id})")
        self.method = method
        self.path = path
        self.request_id = request_id


class NoAnswer(ApiError):
    """No answer came; `may_have_arrived` is False where the request surely did not."""

    def __init__(self, message: str, *, may_have_arrived: bool = True, **request: str) -> None:
        super().__init__(message, **request)
        self.may_have_arrived = may_have_arrived


class AnswerTimedOut(NoAnswer, TimeoutError):
    """No answer came in time."""


class UnreadableAnswer(ApiError):
    """What came is not an answer of the API; `status` is that of HTTP."""

    def __init__(self, message: str, *, status: int, **request: str) -> None:
        super().__init__(message, **request)
        self.status = status


class Problem(ApiError):
    """An answer that says what is wrong.

    Attributes:
        type: the problem's URI, which is stable; `about:blank` where it is not the API's own, but
            a proxy's, for instance.
        status: of HTTP.
        title: the type in words.
        detail: what is wrong this time.
        errors: which parts of the request are.
        members: what else the problem says (`version`, `unconfirmed`, `checks`).
        retry_after_s: when to ask again, in seconds; None where the answer does not say.
    """

    def __init__(
        self,
        *,
        type: str,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[ErrorPart] = (),
        members: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
        **request: str,
    ) -> None:
        text = f"{status} {title}: {detail}" if detail else f"{status} {title}"
        super().__init__(text, **request)
        self.type = type
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.members = dict(members or {})
        self.retry_after_s = retry_after_s


class Unauthorized(Problem):
    """There is no key in force in the request."""


class Forbidden(Problem):
    """The key is for other things."""


class NotFound(Problem):
    """There is no such resource, or it is another organization's."""


class Conflict(Problem):
    """It cannot be done to what there is now."""


class VersionMismatch(Problem):
    """The budget has another version than was expected: nothing was changed."""

    @property
    def version(self) -> int | None:
        """The version that it has, 0 where there is none; None where the answer does not say."""
        found = self.members.get("version")
        return found if type(found) is int else None


class BodyTooLarge(Problem):
    """The body of the request is over its bound."""


class InvalidRequest(Problem):
    """Something in the request is not as it must be: `errors` says what."""


class TooManyRequests(Problem):
    """Too many of them: come back after `retry_after_s`."""


class Unavailable(Problem):
    """What is needed for an answer is not there now; `detail` names it."""


BY_STATUS: dict[int, type[Problem]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: VersionMismatch,
    413: BodyTooLarge,
    422: InvalidRequest,
    429: TooManyRequests,
    503: Unavailable,
}
"""The class of a problem; `Problem` itself for all others."""
