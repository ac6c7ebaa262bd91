"""The OpenAPI document: FastAPI's, and the problems that every keyed resource may answer."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from api.problems import KEYED_REQUEST, described


def install(app: FastAPI) -> None:
    """Have the app describe what its guard answers, at each operation that needs a key."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for operations in made()["paths"].values():
                for operation in operations.values():
                    if isinstance(operation, dict) and operation.get("security"):
                        _add(operation["responses"])
        assert app.openapi_schema is not None, "FastAPI keeps the document that it makes"
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own manual does


def _add(responses: dict[str, Any]) -> None:
    for status, response in described(*KEYED_REQUEST).items():
        there = responses.setdefault(str(status), response)
        if response["description"] not in there["description"]:
            there["description"] += f"; {response['description']}"
