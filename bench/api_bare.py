"""Bare API: FastAPI on uvicorn reads a body and answers 200, which is what the framework costs.

`python -m bench.api_bare PORT` serves until it is told to stop, with the server's options that
`python -m api` has.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response

from outlay.embedded.ports import LOOPBACK

PATH = "/bare"
ANSWER = b'{"bare":true}'

app = FastAPI(openapi_url=None)


@app.post(PATH)
async def post(request: Request) -> Response:
    """Read the body, and do nothing with it."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


@app.get(PATH)
async def ready() -> Response:
    """That it serves."""
    return Response(ANSWER, media_type="application/json")


def main(port: int) -> None:
    """Serve."""
    config = uvicorn.Config(
        app,
        host=LOOPBACK,
        port=port,
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    # h11 and asyncio's own loop, as our API has: uvicorn takes others where they are installed.
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]))
