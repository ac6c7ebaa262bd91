"""What a worker sets for its process holds there; each in a process of its own."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from streams.memory import {keep}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {keep}() is False:
    raise SystemExit("another libc")
blocks = [b"x" * 4_194_304 for _ in range(4)]
del blocks
before = faults()
for _ in range(50):
    blocks = [b"x" * 4_194_304 for _ in range(4)]
    del blocks
print(faults() - before)
"""
PAGE_BYTES_MIN = 4_096


def test_a_fetch_takes_the_memory_of_the_one_before() -> None:
    """Once taken, it is not asked of the system again."""
    ran = _run(FAULTS.format(keep="keep_freed"))
    if "another libc" in ran.stderr:
        pytest.skip("keep_freed does nothing with this libc")
    assert int(ran.stdout) < 4_194_304 / PAGE_BYTES_MIN  # a single block would take as many


def test_what_was_there_from_the_start_is_not_looked_at() -> None:
    ran = _run(
        "import gc; from streams.memory import collect_less as c; c(); print(gc.get_freeze_count())"
    )
    assert int(ran.stdout) > 1_000


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
