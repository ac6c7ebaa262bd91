"""The demo: a fleet of simulated agents on the embedded stack, watched live and checked."""

from outlay.demo.run import DemoOptions, run_demo

__all__ = ["DemoOptions", "run_demo"]
