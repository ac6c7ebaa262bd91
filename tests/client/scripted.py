"""An API that answers as it is told, and remembers what it was asked: no sockets."""

import json

import httpx2

PROBLEM = "application/problem+json"


def problem(status, kind="", *, headers=None, **members):
    """An answer of the API's own shape."""
    type_ = f"urn:outlay:problem:{kind}" if kind else "about:blank"
    body = {"type": type_, "title": kind, "status": status, "detail": "so it is", **members}
    content = json.dumps(body).encode()
    return httpx2.Response(
        status, content=content, headers={"content-type": PROBLEM, **(headers or {})}
    )


def answer(body, status=200, **headers):
    """An answer in JSON."""
    return httpx2.Response(
        status,
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
    )


class Pieces(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A body in pieces; `broken` is how it breaks off, `closed` that nobody reads on."""

    def __init__(self, pieces, broken=None):
        self._pieces = iter(pieces)
        self._broken = broken
        self.given = 0
        self.closed = False

    def __iter__(self):
        for piece in self._pieces:
            self.given += len(piece)
            yield piece
        if self._broken is not None:
            raise self._broken

    async def __aiter__(self):
        for piece in self:
            yield piece

    def close(self):
        """Nobody reads on."""
        self.closed = True

    async def aclose(self):
        """Nobody reads on."""
        self.closed = True


def events(*pieces, broken=None):
    """A stream of events."""
    encoded = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    return httpx2.Response(
        200, stream=Pieces(encoded, broken), headers={"content-type": "text/event-stream"}
    )


class Script:
    """Answers, one for each request: a response, or an error of httpx2 that comes instead."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.requests = []

    @property
    def transport(self):
        """For either client."""
        return httpx2.MockTransport(self._answer)

    @property
    def ended(self):
        """Whether all was asked for."""
        return not self._answers

    def _answer(self, request):
        self.requests.append(request)
        found = self._answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found
