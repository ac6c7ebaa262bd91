"""Who a call counts for, what it may cost, and which gateway it is put to."""

import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import pytest
from fastapi import Depends, Header, HTTPException, Request
from pydantic import BaseModel

from outlay import BudgetGateway
from outlay.integrations.fastapi import BudgetCall, require_budget
from tests.integrations.serving import AGENT, WHO, Serving, monthly


class Prompt(BaseModel):
    words: int


@dataclass
class User:
    organization_id: object
    team_id: str | None = None


def price(data: Prompt, factor: int = 1):
    return {
        "estimated_cost_usd": Decimal("0.01") * data.words * factor,
        "estimated_input_tokens": data.words,
    }


async def current_user(authorization: Annotated[str, Header()] = ""):
    if not authorization:
        raise HTTPException(401)
    return User(*authorization.split("/"))


def test_who_and_estimate_are_dependencies_with_parameters_of_their_own():
    """The body is that of the handler, the user comes from a header, the factor from the query."""
    with Serving(monthly(1)) as serving:
        budget = serving.require(who=current_user, estimate=price)

        @serving.app.post("/invoke/{agent_id}")
        def invoke(agent_id: str, data: Prompt, call: Annotated[BudgetCall, Depends(budget)]):
            call.settle("0.5", input_tokens=data.words)
            return data.words

        def ask(words, user="acme/search", **query):
            headers = {"authorization": user} if user else {}
            return serving.post(json={"words": words}, params=query, headers=headers)

        assert ask(51, factor=2).json()["asked"] == "1.02"
        assert ask(50, user="").status_code == 401
        assert ask("many").status_code == 422
        assert serving.records == ()
        answer = ask(50, factor=2)
        assert (answer.status_code, answer.json()) == (200, 50)
        (record,) = serving.records
        assert (record.organization_id, record.team_id) == ("acme", "search")
        assert (record.agent_id, record.user_id, record.input_tokens) == ("a1", None, 50)


def test_estimated_tokens_count():
    """Against limits of tokens, as the cost does against those in USD."""
    with Serving(monthly(9, daily_input_token_limit=10)) as serving:
        budget = serving.require(estimate={"estimated_input_tokens": 11})
        serving.app.post("/invoke/{agent_id}", dependencies=[Depends(budget)])(lambda: None)
        body = serving.post().json()
        assert (body["window"], body["limit_kind"]) == ("2026-11-21", "input_tokens")
        assert (body["limit"], body["asked"]) == (10, 11)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"who": lambda: None}, "must give an organization_id, NoneType has none"),
        ({"who": lambda: {"organization_id": None}}, "must give an organization_id"),
        ({"who": lambda: {"org": "acme"}}, "who gives org: the ids are"),
        ({"who": lambda: User(7)}, "an id must be a string, not 7"),
        ({"who": lambda: User("")}, "organization_id must have 1 to 256 characters"),
        ({"estimate": lambda: float("nan")}, "must be finite"),
        ({"estimate": lambda: -1}, "not negative"),
        ({"estimate": lambda: {"cost": 1}}, "estimate gives cost, not"),
        ({"estimate": lambda: object()}, "a number or a string"),
    ],
)
def test_what_a_function_returns_that_cannot_be_is_said(options, reason):
    """A clear error in the log, no answer to the client; and no guess."""
    with Serving() as serving:
        budget = serving.require(**options)
        serving.app.post("/invoke/{agent_id}", dependencies=[Depends(budget)])(lambda: None)
        with pytest.raises(ValueError, match=reason):
            serving.post(raises=True)
        assert serving.post().status_code == 500
        assert serving.records == ()


def test_an_organization_is_never_taken_from_the_request():
    """Whoever asks could choose whose money is spent."""
    with Serving() as serving, pytest.raises(TypeError, match="who"):
        require_budget(serving.gateway)


def test_no_agent_is_said():
    """Neither `who` gives one nor the path."""
    with Serving() as serving:
        serving.app.post("/invoke", dependencies=[Depends(serving.require())])(lambda: None)
        with pytest.raises(ValueError, match="no agent"):
            serving.post("/invoke", params={"agent_id": "a1"}, raises=True)


def test_an_agent_of_the_path_that_cannot_be_is_the_clients_fault():
    """422 as for any other parameter, and no error of the server."""
    with Serving() as serving:
        budget = serving.require()
        serving.app.post("/invoke/{agent_id}", dependencies=[Depends(budget)])(lambda: None)
        answer = serving.post("/invoke/" + "a" * 257)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["path", "agent_id"]
        assert serving.post("/invoke/" + "a" * 256).status_code == 200


def test_the_agent_that_who_gives_comes_before_the_paths():
    """Explicit before implicit."""
    with Serving() as serving:
        budget = serving.require(who=WHO | {"agent_id": "other"}, actual="estimate")
        serving.app.post("/invoke/{agent_id}", dependencies=[Depends(budget)])(lambda: None)
        serving.post()
        assert serving.records[0].agent_id == "other"


def test_without_fastapi_the_import_says_what_is_missing():
    """And how to get it; the rest of the library goes without."""
    code = (
        "import sys; sys.modules['fastapi'] = None; import outlay, outlay.integrations\n"
        "try: import outlay.integrations.fastapi\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        said.stdout == "outlay.integrations.fastapi needs FastAPI: pip install 'fastapi>=0.165'\n"
    )


def test_the_library_itself_does_without_fastapi():
    """Nothing else imports it."""
    code = (
        "import sys, outlay, outlay.testing, outlay.integrations.call\n"
        "import outlay.integrations.problem, outlay.integrations.terms\n"
        "print({'fastapi', 'starlette', 'pydantic'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"who": {"team_id": "t"}},
        {"who": {"organization_id": "acme", "team": "t"}},
        {"who": None},
        {"who": {"organization_id": ""}},
        {"who": {"organization_id": 5}},
        {"who": User(float("nan"))},
        {"who": {"organization_id": "acme", "agent_id": "a" * 257}},
        {"estimate": -1},
        {"estimate": "NaN"},
        {"estimate": float("inf")},
        {"estimate": {"cost_usd": 1}},
        {"estimate": {"estimated_input_tokens": -1}},
        {"actual": "guess"},
        {"actual": current_user},
        {"cost_on_error": -1},
        {"cost_on_error": None},
        {"cost_on_error": "NaN"},
        {"status_code": 200},
        {"status_code": True},
        {"expires_s": 0},
        {"expires_s": "1"},
        {"expires_s": True},
        {"expires_s": 10**400},
        {"expires_s": float("nan")},
    ],
)
def test_settings_that_cannot_be_are_said_at_once(wrong):
    """Where the route is written, and not in its first request."""
    with Serving() as serving, pytest.raises(ValueError):
        serving.require(**wrong)


def test_a_gateway_that_cannot_record_is_refused():
    """One without an emitter would drop what calls cost; a string is none at all."""
    with Serving() as serving:
        bare = BudgetGateway(feed=serving.stream.feed)
        with pytest.raises(ValueError, match="no emitter"):
            require_budget(bare, who={"organization_id": "acme"})
        with pytest.raises(ValueError, match="must be a BudgetGateway"):
            require_budget("127.0.0.1:9092", who={"organization_id": "acme"})


def test_the_agent_of_the_path_counts():
    """Under either name, where `who` gives none; its own budget blocks."""
    for name in ("agent_id", "external_agent_id"):
        with Serving(monthly(0), scope=AGENT) as serving:
            budget = serving.require()
            serving.app.post(f"/invoke/{{{name}}}", dependencies=[Depends(budget)])(lambda: None)
            assert serving.post("/invoke/a1").status_code == 402
            assert serving.post("/invoke/a2").status_code == 200


def test_a_gateway_may_come_from_the_app_or_a_dependency():
    """`app.state.outlay_gateway`, or a function; without any the request says what is missing."""
    with Serving(monthly(1)) as serving:

        def gateway_of(request: Request):
            return request.app.state.other

        serving.app.state.other = serving.gateway
        for path, gateway in (("/state", None), ("/function", gateway_of)):
            budget = require_budget(gateway, who=WHO | {"agent_id": "a"}, actual="estimate")
            serving.app.post(path, dependencies=[Depends(budget)])(lambda: None)
        with pytest.raises(ValueError, match=r"give require_budget one, or set app\.state"):
            serving.post("/state", raises=True)
        serving.app.state.outlay_gateway = serving.gateway
        assert serving.post("/state").status_code == serving.post("/function").status_code == 200
        assert len(serving.records) == 2
