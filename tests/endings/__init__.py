"""How mutations end: for each mutation, inputs that reach every member of its result union. Each domain declares its own in a module here."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any
from uuid import UUID

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.jobs import NewJob, submit  # by name: `jobs` is a module of this package
from db.tables.jobs import JobKind
from tests.billing.stripe_stand_in import StripeStandIn
from tests.client import Client

CSV = b"a,b\n" + b"".join(b"%d,%d\n" % (row, row * 3 % 7) for row in range(40))
UNKNOWN = "0" * 32
BAD_KEY = " "
"""An idempotency key that no mutation accepts."""


@dataclass
class World:
    """What the inputs are made in: two users with rows of their own, the admin, a worker, and the settings of the API.

    `sender` sends the mutation: Ada with an API key, or as `sign_in` sets.
    """

    ada: Client
    bob: Client
    database: Database
    set_quota: Callable[[int | None], None]
    """Set the storage quota; None restores it."""
    set_prices: Callable[[Mapping[str, int]], None]
    sender: Client
    sign_in: Callable[[str], Awaitable[Client]]
    """Give the user with this name a password (`PASSWORD`), and sign them in: a client with the token of a session."""
    set_registration: Callable[[str], None]
    """Set who may register."""
    admin: Client
    use_stripe: Callable[[StripeStandIn | None], None]
    """Let the API use this payment provider, or none."""

    async def submit_job(self, dataset: str | None = None) -> str:
        """Submit a job of Ada's to a queue that no worker serves."""
        owner = key_of((await self.ada.one("{ viewer { id } }"))["id"])
        new_job = NewJob(owner, JobKind.EXPORT, "nobody", dataset_id=None if dataset is None else key_of(dataset))
        async with self.database.work(SYSTEM) as work:
            return f"job_{(await submit(work, new_job)).id.hex}"

    async def dataset_of(self, version: str) -> str:
        query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }"
        return (await self.ada.one(query, id=version))["dataset"]["id"]


def key_of(id: str) -> UUID:
    return UUID(id.rpartition("_")[2])


Endings = AsyncGenerator[tuple[str, dict[str, Any]]]
"""Yields (name of the result's type, input). Each is sent before the next is asked for, so an input may depend on those before it."""
Case = Callable[[World], Endings]

_CASES: dict[str, Case] = {}


def endings_of(mutation: str) -> Callable[[Case], Case]:
    """Declare the endings of a mutation. The first one yielded succeeds."""

    def declare(case: Case) -> Case:
        assert mutation not in _CASES, f"The endings of {mutation} are declared twice."
        _CASES[mutation] = case
        return case

    return declare


@cache
def cases() -> Mapping[str, Case]:
    """Return the declarations of all domains, by mutation."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return _CASES
