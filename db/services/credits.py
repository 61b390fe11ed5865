"""What users have, what jobs under way hold of it, and a line in the ledger for every change.

A balance that is read and then written is spent twice by two at once. So an operation is one statement: it changes the user's row if
that leaves nothing below zero, takes the next number of the ledger from it, and writes the line.

The user's row is wanted by everything that the user does at once. It is locked last: holds, charges and releases are left to the end of
their work (`Work.at_last`), which takes the rows of several users in the order of their ids.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Select, Text, Uuid, bindparam, insert, select, update

from db.core.checks import Checks
from db.core.prices import MAX_CREDITS
from db.core.viewer import SYSTEM
from db.core.work import Work
from db.errors import Forbidden, InsufficientCredits, NotFound
from db.settings import state_settings
from db.tables import CreditTransaction, User
from db.tables.billing import CreditKind
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

GRANTABLE_KINDS = frozenset({CreditKind.PURCHASE, CreditKind.REFUND, CreditKind.ADJUSTMENT})  # what operators write; jobs write the rest


def _entry_statement() -> Select[Any]:
    amount, held = bindparam("p_amount", type_=BigInteger()), bindparam("p_held", type_=BigInteger())
    has_enough = (User.id == bindparam("p_owner_id", type_=Uuid())) & (User.credit_balance + amount >= 0)
    new_values = {
        "credit_balance": User.credit_balance + amount,
        "credits_held": User.credits_held + held,
        "credit_sequence": User.credit_sequence + 1,
    }
    columns = (User.id, User.credit_balance, User.credits_held, User.credit_sequence)
    account = update(User).where(has_enough).values(new_values).returning(*columns).cte("account")
    entry = {
        "owner_id": account.c.id,
        "sequence": account.c.credit_sequence,
        "kind": bindparam("p_kind", type_=CreditTransaction.__table__.c.kind.type),
        "amount": amount,
        "held": held,
        "balance_after": account.c.credit_balance,
        "held_after": account.c.credits_held,
        "job_id": bindparam("p_job_id", type_=Uuid()),
        "actor_id": bindparam("p_actor_id", type_=Uuid()),
        "note": bindparam("p_note", type_=Text()),
    }
    inserted = insert(CreditTransaction).from_select(list(entry), select(*entry.values())).cte("entered")
    return select(account.c.credit_balance).add_cte(inserted)


_ENTRY_STATEMENT = _entry_statement()


async def _write_entry(
    work: Work, owner_id: UUID, kind: CreditKind, amount: int, held: int = 0, job_id: UUID | None = None, note: str | None = None
) -> int:
    """What can be spent after this. Raises `InsufficientCredits` where it would be less than nothing, or `NotFound`."""
    entry = {"p_owner_id": owner_id, "p_kind": kind, "p_amount": amount, "p_held": held, "p_job_id": job_id, "p_note": note}
    actor = None if work.viewer is SYSTEM else work.viewer.id
    balance = await work.scalar(_ENTRY_STATEMENT, {**entry, "p_actor_id": actor})
    if balance is not None:
        return balance
    available = await work.scalar(select(User.credit_balance).where(User.id == owner_id))
    if available is None:
        raise NotFound(str(owner_id))
    raise InsufficientCredits(-amount, available)


def price(kind: JobKind) -> int:
    """What a job of this kind costs that is submitted now."""
    return state_settings().credit_prices.get(kind.name, 0)


async def hold(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Keep what a job costs from being spent, until `charge` or `release`. Raises `InsufficientCredits`."""
    await _write_entry(work, owner_id, CreditKind.HOLD, -cost, cost, job_id)


async def charge(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """What was held is gone."""
    await _write_entry(work, owner_id, CreditKind.CONSUMPTION, 0, -cost, job_id)


async def release(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """What was held can be spent again."""
    await _write_entry(work, owner_id, CreditKind.RELEASE, cost, -cost, job_id)


def hold_for_job(work: Work, job: Row[Any]) -> None:
    """Hold what a job costs that was just submitted. The end of the work raises `InsufficientCredits`, and then nothing of it is written."""
    if job.credit_cost:
        work.before_commit(job.owner_id, lambda: hold(work, job.owner_id, job.credit_cost, job.id))


def settle_for_job(work: Work, job: Row[Any]) -> None:
    """A job that completed has cost what was held for it; one that ended otherwise has cost nothing.

    To be called once, in the work of the transition; an index refuses a second end of the same hold.
    """
    if job.credit_cost:
        operation = charge if job.status is JobStatus.COMPLETED else release
        work.before_commit(job.owner_id, lambda: operation(work, job.owner_id, job.credit_cost, job.id))


async def grant(work: Work, owner_id: UUID, kind: CreditKind, amount: int, note: str | None = None) -> int:
    """Give credits, or by an adjustment take some; what can be spent after this.

    Raises `Forbidden` for all but admins, `InvalidInput`, `NotFound`, or `InsufficientCredits` when more is taken than there is.
    """
    if not work.viewer.sees_all:
        raise Forbidden("Only an admin gives credits.")
    checks = Checks()
    if kind not in GRANTABLE_KINDS:
        checks.add("kind", message=f"A {kind.value} is written by jobs; give a purchase, a refund or an adjustment.")
    elif kind is CreditKind.ADJUSTMENT:
        if amount == 0 or abs(amount) > MAX_CREDITS:
            checks.add("amount", message=f"An adjustment is from -{MAX_CREDITS} to {MAX_CREDITS} credits, and not 0.")
    elif not 1 <= amount <= MAX_CREDITS:
        checks.add("amount", message=f"A {kind.value} is from 1 to {MAX_CREDITS} credits; an adjustment takes some away.")
    checks.text(note, "note", length=1_000)
    checks.raise_if_invalid()
    return await _write_entry(work, owner_id, kind, amount, note=note)
