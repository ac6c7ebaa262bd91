"""Free TCP ports on the loopback interface."""

import random
import socket

from outlay.embedded.errors import PortInUse

LOOPBACK = "127.0.0.1"
# Below the range from which Linux and macOS take the ports of outgoing connections, so that
# a port stays free between being found here and being bound by the child.
PORT_MIN = 20_000
PORT_MAX = 32_000
TRIES_MAX = 100


def free_port() -> int:
    """A port that nothing listens on now, at random, so that concurrent callers rarely meet.

    Raises OSError when none of `TRIES_MAX` is free.
    """
    for _ in range(TRIES_MAX):
        port = random.randrange(PORT_MIN, PORT_MAX)
        if is_free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} after {TRIES_MAX} tries")


def is_free(port: int) -> bool:
    """Whether nothing listens on the port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def check_free(port: int, whose: str) -> None:
    """Raises PortInUse, for `whose` sake, when somebody listens on the port now."""
    if not is_free(port):
        raise PortInUse(f"{whose}: port {port} of {LOOPBACK} is in use: choose another, or none")
