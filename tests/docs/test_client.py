"""The code of the client's page runs, section by section, against the API on a socket."""

import re
import warnings
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.client.world import Server, make_world

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The real app, served on loopback, and a key for all of it."""
    world = make_world(tmp_path_factory.mktemp("client"))
    with capture_logs(), world.stream, Server(world.app) as server:
        server.key = world.keys[None, "admin"]
        yield server


def test_each_section_has_code():
    """And is listed at the top."""
    listed = re.findall(r"^- \[(.+?)\]\(#", PAGE, re.MULTILINE)
    assert listed == list(SECTIONS)
    assert all(SECTIONS.values())


@pytest.mark.parametrize("title", list(SECTIONS))
def test_the_code_runs(title, server, monkeypatch, capsys):
    """What it asserts is true."""
    monkeypatch.setenv("OUTLAY_KEY", server.key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in SECTIONS[title]:
            code = block.replace("http://127.0.0.1:8000", server.url)
            exec(compile(code, f"client.md, {title}", "exec"), {})
    if title == "Budgets":
        assert "organization:acme/team:search ok 100" in capsys.readouterr().out
