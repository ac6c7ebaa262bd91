"""Alert defaults: what organizations have told every totals partition of their alerts.

A budget without an alert configuration has its organization's, whose owner is another partition.
What each has told is kept with its version: a message that comes again changes nothing, and what
is found remains a function of the logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from outlay.detection import DEFAULT_DETECTION, Detection
from schemas.messages import AlertDefaults
from streams import messages
from streams.flush import Message

DEFAULTS_SUFFIX = b" defaults"
"""What follows an organization's scope in the changelog's key, where others have a window."""

_decode = msgspec.json.Decoder(AlertDefaults).decode


class ToldDefaults:
    """The defaults of all organizations, as one totals partition knows them."""

    def __init__(self) -> None:
        self._told: dict[str, AlertDefaults] = {}
        self._dirty: set[str] = set()

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take over a record of the changelog."""
        scope = key.removesuffix(DEFAULTS_SUFFIX).decode()
        if value is None:
            self._told.pop(scope, None)
        else:
            self._told[scope] = _decode(value)

    def take(self, told: Mapping[str, AlertDefaults]) -> set[str]:
        """Take over what is newer; returns the scopes of the organizations that it concerns."""
        newer = set()
        for scope, defaults in told.items():
            held = self._told.get(scope)
            if held is None or defaults.version > held.version:
                self._told[scope] = defaults
                newer.add(scope)
        self._dirty |= newer
        return newer

    def detection(self, scope: str) -> Detection:
        """What holds for a scope without a configuration of its own."""
        told = self._told.get(organization_scope(scope))
        return DEFAULT_DETECTION if told is None or told.detection is None else told.detection

    def forget(self, before_day: int) -> None:
        """Drop what is known of organizations that have had none since before a day."""
        for scope, told in list(self._told.items()):
            if told.detection is None and told.day < before_day:
                del self._told[scope]
                self._dirty.add(scope)

    def take_changes(self) -> Iterator[Message]:
        """The changelog records of all that changed; they count as written from then on."""
        for scope in self._dirty:
            told = self._told.get(scope)
            key = scope.encode() + DEFAULTS_SUFFIX
            yield key, None if told is None else messages.encode(told)
        self._dirty.clear()


def organization_scope(scope: str) -> str:
    """The key of the organization that a scope's key is of.

    >>> organization_scope("organization:acme/team:search")
    'organization:acme'
    """
    return scope.partition("/")[0]
