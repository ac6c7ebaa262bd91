"""The code of the library's page runs, section by section, and the library's examples do."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.docs.test_readme import ADDRESS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}
WITH_BROKER = {"Gateways", "Governance"}


def test_each_section_has_code():
    """And is listed at the top."""
    listed = re.findall(r"^- \[(.+?)\]\(#", PAGE, re.MULTILINE)
    assert listed == list(SECTIONS)
    assert all(SECTIONS.values())


def run(title, bootstrap_servers=ADDRESS):
    """Run the blocks of a section one after the other, as one program."""
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in SECTIONS[title]:
            code = block.replace(ADDRESS, bootstrap_servers)
            exec(compile(code, f"library.md, {title}", "exec"), names)
    return names


@pytest.mark.parametrize("title", sorted(SECTIONS.keys() - WITH_BROKER))
def test_the_code_runs(title):
    """What it asserts is true."""
    run(title)


@pytest.mark.parametrize("title", sorted(WITH_BROKER))
def test_the_code_with_a_broker_runs(title, stack, capsys):
    """Against a real one, with a worker."""
    run(title, stack.bootstrap_servers)
    if title == "Gateways":
        said = capsys.readouterr().out
        assert "blocked" in said
        assert "0.00 used + 0.031 own + 0.07 asked > 0.10 USD" in said


def test_doctests_pass():
    """Those of every module of the library; there are some."""
    command = (
        sys.executable,
        "-m",
        "pytest",
        "--doctest-modules",
        "outlay",
        "-q",
        "-p",
        "no:cacheprovider",
    )
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(re.search(r"(\d+) passed", ended.stdout)[1]) >= 10


def test_what_users_write_is_typed():
    """A file that uses all of the library's public names passes mypy --strict."""
    sample = ROOT / "tests" / "docs" / "public_use.py"
    command = (sys.executable, "-m", "mypy", "--strict", str(sample))
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
