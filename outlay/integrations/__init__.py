"""Integrations: outlay in the frameworks that agents are served and built with.

Each module needs its framework, and is the only one to import it.
"""
