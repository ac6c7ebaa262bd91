"""The demo's organization, and its key of the API."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import uuid_utils

from outlay.keyfile import KeyFile


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization, and a key that changes its budgets and sees nothing else."""

    organization_id: str
    key: str = field(repr=False)


def new_tenant(keys: KeyFile, opened: ExitStack) -> Tenant:
    """A new one: the data directory may hold totals of earlier demos. Its key ends with `opened`.

    To be made before the API starts, which knows the key then from its beginning.
    """
    organization_id = f"demo-{str(uuid_utils.uuid7())[-12:]}"
    made, key = keys.create(organization_id, organization_id, ("operator",))
    opened.callback(keys.revoke, made.id)
    return Tenant(organization_id, key)
