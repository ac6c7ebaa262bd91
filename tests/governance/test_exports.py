"""What the package shows is what it says."""

import subprocess
import sys

from outlay import errors, governance


def test_all_is_sorted_and_there():
    """And each name is of the library's own."""
    assert governance.__all__ == sorted(governance.__all__)
    for name in governance.__all__:
        assert getattr(governance, name).__module__.startswith("outlay.")
    assert governance.BudgetExceededError is errors.BudgetExceededError


def test_it_needs_no_framework():
    """Neither the service nor what only the service depends on is imported."""
    code = (
        "import sys, outlay.governance\n"
        "wrong = {'streams', 'api', 'schemas', 'pydantic', 'fastapi', 'faust'} & set(sys.modules)\n"
        "sys.exit(', '.join(wrong) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
