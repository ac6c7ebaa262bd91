"""What can go wrong with the embedded stack.

StackError
├── DataDirInUse         another process runs a stack on the same data directory
├── ServiceNotInstalled  the service's modules, or what they need, are not here
└── StackFailed          a process ended for good, or was not ready within its bound
"""


class StackError(RuntimeError):
    """Base of every error that `outlay.stack` raises on purpose."""


class DataDirInUse(StackError):
    """Another process runs a stack on the same data directory."""


class ServiceNotInstalled(StackError):
    """The service's modules are not to be found: it runs from a checkout or from the image."""


class StackFailed(StackError):
    """A process of the stack ended too often, or was not ready in time; with its log's end."""
