"""Headers for browsers: what they may do with an answer, and which pages may ask."""

from fastapi.testclient import TestClient

from api.app import create_app
from schemas.settings import Settings
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory

A1 = "/api/v1/external-agents/a1"


def test_every_answer_has_security_headers(keyed):
    """Good ones, problems, and a bug's; what an answer says itself stays."""
    keyed.feed.decisions = None
    answers = [
        keyed.ask(None, "/healthz"),
        keyed.ask(None, "/nowhere"),
        keyed.ask(None, f"{A1}/budget"),
        keyed.ask(keyed.key["acme", "viewer"], f"{A1}/budget"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 401, 500]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_the_docs_page_may_load_what_it_needs(keyed):
    """Its policy names each host that its page names."""
    page = keyed.ask(None, "/docs")
    policy = page.headers["content-security-policy"]
    hosts = {part.split("/")[2] for part in page.text.split('"') if part.startswith("https://")}
    assert hosts
    assert all(f"https://{host}" in policy for host in hosts)
    assert "frame-ancestors 'none'" in policy


def _cors(settings, method="GET", **headers):
    feed = FakeFeed()
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())
    with TestClient(app, "http://localhost") as client:
        return client.request(method, "/healthz", headers={"Origin": "https://a.example"} | headers)


def test_cors_is_off_unless_set():
    """No origin is let in, also not to ask."""
    preflight = {"Access-Control-Request-Method": "GET"}
    for answer in (_cors(Settings()), _cors(Settings(), "OPTIONS", **preflight)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_cors_lets_the_named_origins_ask():
    """With a key in a header; no cookies, and nobody else."""
    settings = Settings(api_cors_origins="https://a.example,https://b.example")
    asked = {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,if-match",
    }
    answer = _cors(settings, "OPTIONS", **asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-credentials" not in answer.headers
    assert "ETag" in _cors(settings).headers["access-control-expose-headers"]
    other = _cors(settings, Origin="https://evil.example")
    assert "access-control-allow-origin" not in other.headers
