"""Entity tags: a budget's version as `ETag`, and what `If-Match` and `If-None-Match` ask of it.

RFC 9110, sections 8.8.3 and 13.1. The tag of version 3 is `"3"`. It names the budget as it was
set, not what is used of it, so it is there for writes: reads do not answer 304.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from fastapi import Header

from api.problems import ProblemError

TAGS_MAX = 8
"""How many tags an `If-Match` may list: each may be asked about in turn."""

# Spaces behind a tag only: two runs of them side by side would be tried in every division.
_ELEMENT = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|\Z)')
_is_version = re.compile(r"[1-9][0-9]{0,17}", re.ASCII).fullmatch

IfMatch = Annotated[
    list[str] | None,
    Header(
        alias="If-Match",
        description='Change it only if it has this version: its `ETag`, `"3"`; `*`: if it is there.'
        " Otherwise 412.",
    ),
]
IfNoneMatch = Annotated[
    list[str] | None,
    Header(alias="If-None-Match", description="`*`: only if there is none. Otherwise 412."),
]


class Condition(NamedTuple):
    """What must hold for a write: `free` is without a condition, `absent` means there is none.

    `one_of` means that the budget has one of the `versions`, which are sorted; without any of them
    it cannot hold. `present` means that there is one. `latest` is none to the client, either, but
    it is to be known which version was found.
    """

    kind: Literal["free", "absent", "present", "one_of", "latest"]
    versions: tuple[int, ...] = ()


FREE = Condition("free")
LATEST = Condition("latest")


def etag(version: int) -> str:
    """The tag of a version."""
    return f'"{version}"'


def condition_of(if_match: list[str] | None, if_none_match: list[str] | None) -> Condition:
    """The condition that the headers make.

    Raises:
        ProblemError: they make none that a write could hold to.
    """
    if if_match is None and if_none_match is None:
        return FREE
    if if_match is None:
        if [each.strip(" \t") for each in if_none_match or []] != ["*"]:
            raise _invalid("If-None-Match", "of a write it can only be *: create, do not change")
        return Condition("absent")
    if if_none_match is not None:
        raise _invalid("If-None-Match", "it cannot hold together with If-Match")
    text = ", ".join(if_match)  # several header lines are one list
    if text.strip(" \t") == "*":
        return Condition("present")
    # A weak tag never matches here (13.1.1), and neither does one that we never gave.
    versions = {int(tag) for weak, tag in _tags(text) if not weak and _is_version(tag)}
    return Condition("one_of", tuple(sorted(versions)))


def _tags(text: str) -> list[tuple[bool, str]]:
    tags: list[tuple[bool, str]] = []
    position = 0
    while position < len(text):
        element = _ELEMENT.match(text, position)
        if element is None:
            raise _invalid("If-Match", 'write a list of tags, such as "3", or *')
        if element["tag"] is not None:  # else an empty element, which a recipient ignores
            tags.append((element["weak"] is not None, element["tag"]))
        position = element.end()
    if not 1 <= len(tags) <= TAGS_MAX:
        raise _invalid("If-Match", f"it names 1 to {TAGS_MAX} tags")
    return tags


def _invalid(name: str, message: str) -> ProblemError:
    location = f"header.{name}"
    errors = [{"location": location, "message": message}]
    return ProblemError("invalid-request", f"{location}: {message}", errors=errors)
