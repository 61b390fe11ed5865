"""Credits: balances of users, holds of unfinished jobs, and a ledger entry for every change.

Two transactions that read a balance and then write it could spend it twice. So an operation is one statement: it updates the user's row
unless a column would become negative, takes the ledger's next sequence from it, and inserts the entry.

All concurrent work of a user contends for the user's row. So it is locked last: holds, charges and releases run just before the commit
(`Work.before_commit`), which locks the rows of several users in the order of their ids.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Select, Text, Uuid, bindparam, case, exists, func, insert, literal, select, true, update

from db.core.checks import Checks
from db.core.prices import MAX_CREDITS
from db.core.unique import translate_unique_violation
from db.core.viewer import SYSTEM, AccountKind
from db.core.work import Work
from db.errors import Forbidden, InsufficientCredits, NotFound, WrongState, invalid
from db.queries.storage import payer
from db.services import credit_budgets, idempotency
from db.settings import state_settings
from db.tables import CreditTransaction, Job, User
from db.tables.billing import TransactionType
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

GRANTABLE_TYPES = frozenset(
    {TransactionType.PURCHASE, TransactionType.REFUND, TransactionType.ADJUSTMENT}
)  # written by admins; jobs write the others


def _entry_statement() -> Select[Any, Any]:
    amount, held = bindparam("p_amount", type_=BigInteger()), bindparam("p_held", type_=BigInteger())
    has_enough = (User.id == bindparam("p_owner_id", type_=Uuid())) & (User.credit_balance + amount >= 0)
    is_low = User.credit_balance + amount < bindparam("p_low", type_=BigInteger())
    new_values = {
        "credit_balance": User.credit_balance + amount,
        "credits_held": User.credits_held + held,
        "credit_sequence": User.credit_sequence + 1,
        "credits_low_since": case((is_low, func.coalesce(User.credits_low_since, func.clock_timestamp()))),
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
        "package_id": bindparam("p_package_id", type_=Uuid()),
        "external_reference": bindparam("p_external_reference", type_=Text()),
        "created_at": func.clock_timestamp(),  # under the lock: in the order of the sequence
    }
    inserted = insert(CreditTransaction).from_select(list(entry), select(*entry.values())).returning(CreditTransaction.id)
    entries = inserted.cte("inserted_entry")
    return select(account.c.credit_balance, entries.c.id).join(entries, true())


_ENTRY_STATEMENT = _entry_statement()


async def write_entry(
    work: Work,
    owner_id: UUID,
    kind: TransactionType,
    amount: int,
    held: int = 0,
    job_id: UUID | None = None,
    note: str | None = None,
    payment: tuple[UUID, str] | None = None,
) -> Row[Any]:
    """Write one ledger entry; return its id and the new balance. `payment` is the package that was paid for, and the provider's id of the payment.

    Raises `InsufficientCredits` if the balance would be negative, or `NotFound`.
    """
    entry = {"p_owner_id": owner_id, "p_kind": kind, "p_amount": amount, "p_held": held, "p_job_id": job_id, "p_note": note}
    package_id, reference = payment or (None, None)
    actor = None if work.viewer is SYSTEM else work.viewer.id
    settings = {"p_actor_id": actor, "p_low": state_settings().low_credits}
    written = await work.first(_ENTRY_STATEMENT, {**entry, **settings, "p_package_id": package_id, "p_external_reference": reference})
    if written is not None:
        return written
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
    await write_entry(work, owner_id, TransactionType.HOLD, -cost, cost, job_id)


async def charge(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Consume held credits."""
    await write_entry(work, owner_id, TransactionType.CONSUMPTION, 0, -cost, job_id)


async def release(work: Work, owner_id: UUID, cost: int, job_id: UUID) -> None:
    """Return held credits to the balance."""
    await write_entry(work, owner_id, TransactionType.RELEASE, cost, -cost, job_id)


async def available_to(work: Work, owner_id: UUID) -> int:
    """The credits that a job of this account could spend: those of its payer."""
    return await work.scalar(select(User.credit_balance).where(User.id == payer(literal(owner_id))))


def payer_of(job: Row[Any]) -> UUID:
    """The account that a job is paid by."""
    return job.payer_id or job.owner_id


def hold_for_job(work: Work, job: Row[Any]) -> None:
    """Hold the cost of a submitted job before the commit, which raises `InsufficientCredits` and rolls back if the balance, or a budget, is too low."""
    if job.credit_cost:
        credit_budgets.add_job(work, job)
        work.before_commit(payer_of(job), lambda: hold(work, payer_of(job), job.credit_cost, job.id))


def settle_for_job(work: Work, job: Row[Any]) -> None:
    """Charge the held credits of a completed job before the commit; release those of a job that ended otherwise.

    To be called once, in the transition's unit of work; a unique index refuses a second end of one hold.
    """
    if job.credit_cost:
        credit_budgets.add_job(work, job)
        operation = charge if job.status is JobStatus.COMPLETED else release
        work.before_commit(payer_of(job), lambda: operation(work, payer_of(job), job.credit_cost, job.id))


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits that an admin gives an account; an adjustment may take some away. The note is kept in the ledger."""

    owner_id: UUID
    kind: TransactionType
    amount: int
    note: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The id of the entry, and the credits that the account can spend by it."""

    transaction_id: UUID
    balance: int


async def grant(work: Work, new: Grant) -> Granted:
    """Grant credits, or take some by a negative adjustment.

    Raises `Forbidden` for all but admins, `InvalidInput`, `NotFound`, `Conflict`, or `InsufficientCredits` if more is taken than the balance.
    """
    if not work.viewer.sees_all:
        raise Forbidden("Only an admin gives credits.")
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored = await idempotency.recall(work, "grantCredits", new.idempotency_key, request)
    if stored is not None:
        return Granted(UUID(stored["transaction"]), stored["balance"])
    checks = Checks()
    if new.kind not in GRANTABLE_TYPES:
        checks.add("type", message=f"A {new.kind.value} is written by jobs; give a purchase, a refund or an adjustment.")
    elif new.kind is TransactionType.ADJUSTMENT:
        if new.amount == 0 or abs(new.amount) > MAX_CREDITS:
            checks.add("amount", message=f"An adjustment is from -{MAX_CREDITS} to {MAX_CREDITS} credits, and not 0.")
    elif not 1 <= new.amount <= MAX_CREDITS:
        checks.add("amount", message=f"A {new.kind.value} is from 1 to {MAX_CREDITS} credits; an adjustment takes some away.")
    _check_reason(checks, new.note)
    checks.raise_if_invalid()
    if not await work.scalar(select(exists().where(User.id == new.owner_id, User.kind != AccountKind.SYSTEM, User.deleted_at.is_(None)))):
        raise NotFound(str(new.owner_id))
    written = await write_entry(work, new.owner_id, new.kind, new.amount, note=new.note)
    balance: int = written.credit_balance
    await idempotency.remember(work, new.idempotency_key, {"transaction": str(written.id), "balance": balance})
    granted = {"kind": new.kind, "amount": new.amount, "note": new.note, "credit_balance": balance}
    work.record("grant_credits", "user", new.owner_id, new.owner_id, {"credit_balance": balance - new.amount}, granted)
    return Granted(written.id, balance)


async def refund_job(work: Work, job_id: UUID, reason: str, amount: int | None = None) -> UUID:
    """Give back what a job was charged, or `amount` of it, to the account that paid; return the id of the entry. A job is refunded once.

    Raises `Forbidden` for all but admins, `InvalidInput`, `NotFound`, or `WrongState` for a job that was not charged, or refunded already.
    """
    if not work.viewer.sees_all:
        raise Forbidden("Only an admin gives credits back.")
    checks = Checks()
    _check_reason(checks, reason)
    checks.raise_if_invalid()
    job = await work.first(select(Job.owner_id, Job.status).where(Job.id == job_id))
    if job is None:
        raise NotFound(str(job_id))
    charged = (-(CreditTransaction.held + CreditTransaction.amount)).label("charged")
    is_charge = (CreditTransaction.job_id == job_id, CreditTransaction.kind == TransactionType.CONSUMPTION)
    charge = await work.first(select(CreditTransaction.owner_id, charged).where(*is_charge))
    if charge is None:
        message = "The job was not charged, so there is nothing to give back: only completed jobs that had a price are."
        raise WrongState(job.status.name, message)
    refund: int = charge.charged if amount is None else amount
    if not 1 <= refund <= charge.charged:
        raise invalid("amount", message=f"The job was charged {charge.charged} credits; give back from 1 to {charge.charged} of them.")
    with translate_unique_violation("uq_credit_transactions_refund", WrongState(job.status.name, "The job was refunded already.")):
        written = await write_entry(work, charge.owner_id, TransactionType.REFUND, refund, job_id=job_id, note=reason)
    work.record("refund_job", "job", job_id, job.owner_id, after={"amount": refund, "note": reason})
    return written.id


def _check_reason(checks: Checks, reason: str | None) -> None:
    if reason is not None and not reason.strip():
        checks.add("reason", message="Say why, for whoever reads the ledger.")
    checks.text(reason, "reason", length=1_000)
