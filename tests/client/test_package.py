"""The package: what it exports, and that nobody needs httpx2 who does not ask for it."""

import inspect
import subprocess
import sys

import msgspec

from outlay import client
from outlay.client import AsyncClient, Client
from outlay.client.operations import Listing, Operation, Resource, Stream


def run(code):
    """What a process of its own writes."""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_without_httpx2_the_error_names_the_extra():
    """And the library itself neither needs nor imports it."""
    said = run(
        "import sys\n"
        "import outlay\n"
        "assert 'httpx2' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('outlay.client')]\n"
        "sys.modules['httpx2'] = None\n"
        "try:\n"
        "    import outlay.client\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'outlay[client]'" in said


def test_all_is_what_is_exported():
    """Sorted, and each of it a class of this package, or an answer's own."""
    assert client.__all__ == sorted(client.__all__)
    assert all(inspect.isclass(getattr(client, name)) for name in client.__all__)


def test_every_answer_is_exported():
    """Whatever a method returns, somebody may want to name."""
    answers = {
        each.__name__
        for module in vars(client).values()
        if inspect.ismodule(module)
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == module.__name__
        and not each.__name__.startswith("_")
    }
    assert answers <= set(client.__all__)


def test_every_method_says_what_it_does():
    """Its docstring, and its parameters without those of nobody, as `help` shows them."""
    outlay = Client("http://api.example")
    found = []
    for resource in (outlay, *vars(outlay).values()):
        if not isinstance(resource, Resource):
            continue
        for name in dir(type(resource)):
            if isinstance(getattr(type(resource), name), Operation | Listing | Stream):
                method = getattr(resource, name)
                assert inspect.getdoc(method), name
                assert "self" not in inspect.signature(method).parameters
                assert method.__name__ == name
                found.append(name)
    outlay.close()
    assert len(found) >= 19


def test_both_clients_say_the_same_words():
    """The same names, but for how they are closed."""
    both = [{name for name in dir(each) if name[0] != "_"} for each in (Client, AsyncClient)]
    assert both[0] ^ both[1] == {"close", "aclose"}
