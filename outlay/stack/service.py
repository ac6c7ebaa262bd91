"""Where the service's modules are, and how one of them is run as a process.

The library must not import the service (`streams`, `api`, `schemas`): it starts it by name. The
published wheel holds the library alone; the service runs from a checkout or from the image.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from outlay.stack.errors import ServiceNotInstalled

REQUIRED = ("faust", "clickhouse_connect", "fastapi", "uvicorn", "pydantic_settings", "structlog")
"""A module of each package that the service cannot start without."""


def service_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs a module of the service in this Python, with its arguments.

    Raises:
        ServiceNotInstalled: the module, or a package that the service needs, is not here.
    """
    missing = [name for name in REQUIRED if not _installed(name)]
    if missing:
        raise ServiceNotInstalled(
            f"the service's packages are not installed ({', '.join(missing)}): "
            "pip install 'outlay[service]'"
        )
    top_level = module.partition(".")[0]
    if _checkout() is None and importlib.util.find_spec(top_level) is None:
        raise ServiceNotInstalled(
            f"the service ({top_level}) is not here: it runs from a checkout of outlay or from "
            "its image, the installed library holds none of it"
        )
    return (sys.executable, "-m", module, *arguments)


def _installed(name: str) -> bool:
    # Faust puts a module of its own in its place, which has no spec.
    return name in sys.modules or importlib.util.find_spec(name) is not None


def service_env(overrides: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, the service's modules found in it, and `overrides`."""
    env = dict(os.environ)
    checkout = _checkout()
    if checkout is not None:
        paths = [str(checkout), *filter(None, [env.get("PYTHONPATH")])]
        env["PYTHONPATH"] = os.pathsep.join(paths)
    # Log lines must not wait in a buffer when a process is killed.
    return env | {"PYTHONUNBUFFERED": "1"} | dict(overrides)


def _checkout() -> Path | None:
    """The folder that holds `outlay` and, in a checkout and in the image, the service beside it."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "streams" / "worker.py").is_file() else None
