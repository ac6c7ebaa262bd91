"""The embedded stack: a broker, workers, the API with its history, and alerts, as child processes.

`outlay up`, the demo and the end-to-end tests run on it.
"""

from outlay.stack.errors import DataDirInUse, ServiceNotInstalled, StackError, StackFailed
from outlay.stack.processes import Process, Worker
from outlay.stack.service import service_command
from outlay.stack.stack import Stack

__all__ = [
    "DataDirInUse",
    "Process",
    "ServiceNotInstalled",
    "Stack",
    "StackError",
    "StackFailed",
    "Worker",
    "service_command",
]
