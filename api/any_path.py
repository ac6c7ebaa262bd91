"""A parameter of paths that takes all that is left, also line feeds, which an id may hold."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor

ANY = "any"
"""What stands behind the name of such a parameter: `{scope:any}`."""


class _Any(PathConvertor):
    """Starlette's `path` ends at a line feed."""

    regex = "(?s:.*)"


register_url_convertor(ANY, _Any())
