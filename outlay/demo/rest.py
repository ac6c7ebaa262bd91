"""The demo as a client of the REST API; with the standard library's HTTP alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from outlay.demo.ledger import Sum
from outlay.errors import OutlayError
from outlay.money import to_nano
from outlay.scope import Scope
from outlay.window import Window

TIMEOUT_S = 30.0


class ApiFailed(OutlayError):
    """The API answered with an error, or not at all."""


class ApiClient:
    """Asks the API for one organization, with a key of it; raises `ApiFailed`."""

    def __init__(self, url: str, organization_id: str, key: str) -> None:
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._url = f"{url}/api/v1"
        self._organization_id = organization_id

    def patch_budget(self, agent_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change an agent's budget, or make one; the answer's body."""
        path = f"/external-agents/{quote(agent_id, safe='')}/budget/config"
        return self._ask("PATCH", path, {}, changes)

    def put_alerts(self, scope: Scope, config: Mapping[str, Any]) -> dict[str, Any]:
        """Set the alert configuration of a budget; the answer's body."""
        return self._ask("PUT", f"/budgets/{scope.key}/alerts", {}, config)

    def spend(self, group_by: str, months: Collection[str]) -> dict[str, Sum]:
        """What each scope of a kind spent in some months, by its key, from the history."""
        query = {
            "from": Window(min(months)).start.isoformat(),
            "to": Window(max(months)).end.isoformat(),
            "interval": "month",
            "group_by": group_by,
        }
        spent: dict[str, Sum] = {}
        for row in self._ask("GET", "/reports/spend", query)["rows"]:
            if row["group"] is not None:  # null: records that name no such id, as the probe's team
                key = self._key(group_by, row["group"])
                found = Sum(row["records"], to_nano(row["cost_usd"]))
                spent[key] = spent.get(key, Sum()) + found
        return spent

    def _key(self, group_by: str, group: str) -> str:
        if group_by == "organization":
            return Scope(group).key
        return Scope(self._organization_id, **{f"{group_by}_id": group}).key

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        query = {**query, "organization_id": self._organization_id}
        request = urllib.request.Request(
            f"{self._url}{path}?{urlencode(query)}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=self._headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2_000).decode(errors="replace")
            raise ApiFailed(f"{method} {path}: {error.code} {said}") from None
        except OSError as error:
            raise ApiFailed(f"{method} {path}: {error}") from error
