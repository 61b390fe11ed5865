"""Credits: balances of users, holds of unfinished jobs, and a ledger entry for every change.

Two transactions that read a balance and then write it could spend it twice. So an operation is one statement: it updates the user's row
unless a column would become negative, takes the ledger's next sequence from it, and inserts the entry.

All concurrent work of a user contends for the user's row. So it is locked last: holds, charges and releases run just before the commit
(`Work.before_commit`), which locks the rows of several users in the order of their ids.
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

GRANTABLE_KINDS = frozenset({CreditKind.PURCHASE, CreditKind.REFUND, CreditKind.ADJUSTMENT})  # written by admins; jobs write the others


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
    inserted = insert(CreditTransaction).from_select(list(entry), select(*entry.values())).cte("inserted_entry")
    return select(account.c.credit_balance).add_cte(inserted)


_ENTRY_STATEMENT = _entry_statement()


async def _write_entry(
    work: Work, owner_id: UUID, kind: CreditKind, amount: int, held: int = 0, job_id: UUID | None = None, note: str | None = None
) -> int:
    """Write one ledger entry and return the new balance. Raises `InsufficientCredits` if it would be negative, or `NotFound`."""
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
    """The current price of a job of this kind."""
    return state_settings().credit_prices.get(kind.name, 0)


async def require(work: Work, payer_id: UUID, cost: int) -> None:
    """Raise `InsufficientCredits` if the account could not pay this now; nothing is held."""
    if cost:
        available = await work.scalar(select(User.credit_balance).where(User.id == payer_id))
        if available < cost:
            raise InsufficientCredits(cost, available)


async def hold(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Hold a job's cost until `charge` or `release`. Raises `InsufficientCredits`."""
    await _write_entry(work, owner_id, CreditKind.HOLD, -cost, cost, job_id)


async def charge(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Consume held credits."""
    await _write_entry(work, owner_id, CreditKind.CONSUMPTION, 0, -cost, job_id)


async def release(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Return held credits to the balance."""
    await _write_entry(work, owner_id, CreditKind.RELEASE, cost, -cost, job_id)


def payer_of(job: Row[Any]) -> UUID:
    """The account that a job is paid by."""
    return job.payer_id or job.owner_id


def hold_for_job(work: Work, job: Row[Any]) -> None:
    """Hold the cost of a submitted job before the commit, which raises `InsufficientCredits` and rolls back if the balance is too low."""
    if job.credit_cost:
        work.before_commit(payer_of(job), lambda: hold(work, payer_of(job), job.credit_cost, job.id))


def settle_for_job(work: Work, job: Row[Any]) -> None:
    """Charge the held credits of a completed job before the commit; release those of a job that ended otherwise.

    To be called once, in the transition's unit of work; a unique index refuses a second end of one hold.
    """
    if job.credit_cost:
        operation = charge if job.status is JobStatus.COMPLETED else release
        work.before_commit(payer_of(job), lambda: operation(work, payer_of(job), job.credit_cost, job.id))


async def grant(work: Work, owner_id: UUID, kind: CreditKind, amount: int, note: str | None = None) -> int:
    """Grant credits, or take some by a negative adjustment; return the new balance.

    Raises `Forbidden` for all but admins, `InvalidInput`, `NotFound`, or `InsufficientCredits` if more is taken than the balance.
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
    balance = await _write_entry(work, owner_id, kind, amount, note=note)
    granted = {"kind": kind, "amount": amount, "note": note, "credit_balance": balance}
    work.record("grant_credits", "user", owner_id, owner_id, {"credit_balance": balance - amount}, granted)
    return balance
