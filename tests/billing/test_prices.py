"""Prices are settings; meaningless ones are rejected with an explanation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from pydantic import ValidationError

from db.core.prices import MAX_CREDITS
from db.services import jobs
from db.settings import StateSettings
from db.tables.billing import TransactionType
from server.commands.credits import GrantKind
from server.commands.services import valid_settings

PRICED = ", ".join(sorted(kind.name for kind, spec in jobs.declared_kinds().items() if spec.price_refusal is None))


def test_nothing_costs_anything_until_a_price_is_set() -> None:
    assert StateSettings().credit_prices == {}


def test_prices_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_CREDIT_PRICES", '{"TRAIN": 10, "PROCESS": 0}')
    assert StateSettings().credit_prices == {"TRAIN": 10, "PROCESS": 0}


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"INGEST": 1}, "`completeUpload` cannot report insufficient credits, so an ingest has no price. Leave INGEST out."),
        ({"PURGE": 1}, f"There is no job kind 'PURGE' that may have a price. These may: {PRICED}."),
        ({"train": 1}, f"There is no job kind 'train' that may have a price. These may: {PRICED}."),
        ({"TRAIN": -1}, f"The price of TRAIN is -1; a price is a whole number of credits from 0 to {MAX_CREDITS}."),
        ({"TRAIN": 1.5}, "The price of TRAIN is 1.5; a price is a whole number"),
        ({"TRAIN": "10"}, "The price of TRAIN is '10'; a price is a whole number"),
        ({"TRAIN": True}, "The price of TRAIN is True; a price is a whole number"),
        ({"TRAIN": MAX_CREDITS + 1}, "a price is a whole number of credits"),
        ([10], 'Prices are a JSON object by job kind: {"TRAIN": 10}.'),
    ],
)
def test_a_price_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prices: Any, message: str
) -> None:
    monkeypatch.setenv("TRELLIS_CREDIT_PRICES", json.dumps(prices))
    with pytest.raises(ValidationError):
        StateSettings()
    with pytest.raises(typer.Exit):
        valid_settings()
    assert capsys.readouterr().err.startswith("TRELLIS_CREDIT_PRICES: ")
    with pytest.raises(ValidationError) as refused:
        StateSettings()
    assert message in refused.value.errors()[0]["msg"]


@pytest.mark.exhaustive
def test_kinds_are_known_to_settings_that_are_read_first() -> None:
    """The process that reads the settings has not imported any domain yet."""
    code = "from db.settings import StateSettings; print(StateSettings().credit_prices)"
    environment = {**os.environ, "TRELLIS_CREDIT_PRICES": '{"TRAIN": 10}'}
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (completed.stdout, completed.stderr) == ("{'TRAIN': 10}\n", "")


def test_what_the_command_line_gives_are_kinds_of_the_ledger() -> None:
    assert {kind.value for kind in GrantKind} <= {kind.value for kind in TransactionType}
