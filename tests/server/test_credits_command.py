"""`trellis credits`: an operator grants credits from a terminal, and reads the ledger."""

from __future__ import annotations

from datetime import datetime

import pytest

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts, jobs
from db.settings import StateSettings, state_settings
from db.tables.jobs import JobKind
from server.commands import operations
from tests.exhaustive import few
from tests.server.test_jobs_command import json_lines, trellis

ADA = "ada@example.org"


@pytest.fixture
async def ada(clean: None, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        await accounts.add_user(work, ADA, "ada", "Ada", UserRole.MEMBER)


async def test_granted_credits_can_be_spent_and_are_shown(
    ada: None, database: Database, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = await trellis("credits", "grant", ADA, "10", "--note", "a [red] start")
    assert (granted.returncode, granted.stdout) == (0, f"{ADA} can spend 10.\n"), granted.stderr
    deducted = await trellis("credits", "grant", "ADA@example.org", "-3", "--kind", "adjustment")
    assert (deducted.returncode, deducted.stdout) == (0, "ADA@example.org can spend 7.\n"), deducted.stderr
    monkeypatch.setattr(state_settings(), "credit_prices", {"EXPORT": 2})
    owner_id = await operations.owner_id(database, ADA)
    async with database.work(SYSTEM) as work:
        job = (await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, "nobody serves this"))).id
    result = await trellis("credits", "show", ADA)
    assert result.returncode == 0, result.stderr
    first, head, _, *row_lines = result.stdout.splitlines()
    assert first == f"{ADA} can spend 5; unfinished jobs hold 2."
    assert head.split() == ["entry", "kind", "amount", "held", "balance", "total", "held", "job", "when", "note"]
    rows = [row.split() for row in row_lines if row.strip()]
    assert rows[0][:7] == ["3", "hold", "-2", "+2", "5", "2", f"job_{job.hex}"]
    assert rows[1][:5] == ["2", "adjustment", "-3", "7", "0"]
    assert rows[2][:5] == ["1", "purchase", "+10", "10", "0"]
    assert rows[2][7:] == ["a", "[red]", "start"]
    (account,) = await json_lines("credits", "show", ADA, "--limit", "1")
    (transaction,) = account.pop("transactions")
    assert account == {"email": ADA, "creditBalance": 5, "creditsHeld": 2}
    assert datetime.fromisoformat(transaction.pop("createdAt")).tzinfo
    assert transaction == {
        "sequence": 3,
        "kind": "HOLD",
        "amount": -2,
        "held": 2,
        "balanceAfter": 5,
        "heldAfter": 2,
        "note": None,
        "job": f"job_{job.hex}",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    few(
        3,
        [
            (("grant", "eve@example.org", "1"), 1, "No user has the email address 'eve@example.org'."),
            (("show", "eve@example.org"), 1, "No user has the email address 'eve@example.org'."),
            (("grant", ADA, "0"), 1, "amount: A purchase is from 1 to 1000000000000 credits; an adjustment takes some away."),
            (("grant", ADA, "-1", "--kind", "adjustment"), 1, "This takes 1 credit, and 0 can be spent."),
            (("grant", ADA, "1", "--kind", "hold"), 2, "Invalid value for '--kind'"),
            (("grant", ADA, "much"), 2, "should be a valid integer"),
            (("grant", ADA, "1", "--knot", "x"), 2, "unexpected extra argument"),
        ],
    ),
)
async def test_invalid_grants_are_refused_with_an_explanation(ada: None, arguments: tuple[str, ...], status: int, message: str) -> None:
    refused = await trellis("credits", *arguments)
    assert refused.returncode == status
    assert message in refused.stderr
    if arguments[1] == ADA:
        assert await json_lines("credits", "show", ADA) == [{"email": ADA, "creditBalance": 0, "creditsHeld": 0, "transactions": []}]
