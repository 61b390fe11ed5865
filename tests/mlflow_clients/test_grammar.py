"""Filters mean what MLflow's own parser takes them for."""

from __future__ import annotations

import pytest

from server.mlflow.errors import MlflowError
from server.mlflow.grammar import parse_filter, parse_order
from server.mlflow.values import shown, stored
from tests.client import Client
from tests.mlflow_clients.conftest import run_script

FILTERS = (
    "metrics.loss > 0.9 and params.b = 'x' AND tags.`mlflow.user` LIKE '%a'",
    'metrics."val loss" <= 1e-3',
    "metric.a > -1 AND metrics.b<5 and parameters.c != 'd'",
    "attributes.status = 'RUNNING'",
    "run_id IN ('a', 'b') AND start_time >= 17",
    "run_id NOT IN ('a')",
    "tags.mlflow.parentRunId = 'run_1' and tag.x ILIKE 'É%'",
    "params.x IS NOT NULL and tags.y IS NULL",
    'params."a.b" = "it\'s"',
    "run_name ILIKE 'a_%'",
    "metrics.`a/b` = .5",
    "end_time < 1700000000000",
)
REFUSED = (
    "params.a == 'x'",
    "metrics.a > 'x",
    "metrics.a",
    "AND",
    "metrics.a > 1 OR metrics.b > 1",
    "colours.a = 'x'",
    "run_id IN ()",
    "metrics.a > 1 metrics.b > 1",
    "metrics.a IS 1",
    "x" * 10_001,
)


async def test_filters_are_read_as_mlflow_reads_them(ada: Client) -> None:
    theirs = await run_script(ada, "parse.py", *FILTERS)
    ours = [
        [
            [clause.entity, clause.key, clause.comparator, list(clause.value) if isinstance(clause.value, tuple) else clause.value]
            for clause in parse_filter(text)
        ]
        for text in FILTERS
    ]
    assert ours == theirs


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_filter_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(MlflowError) as refusal:
        parse_filter(text)
    assert refusal.value.code == "INVALID_PARAMETER_VALUE"
    assert len(refusal.value.message) < 20_000


@pytest.mark.parametrize("text", ["", "metrics.a b", "metrics.a UP", "a desc asc", "x" * 10_001])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(MlflowError):
        parse_order(text)


@pytest.mark.parametrize(
    "text", ["0.1", "1e-3", "1e-05", "007", "3", "3.0", "-0", "-0.0", "True", "nan", "inf", "9" * 25, "1_000", " 1", "", "٣", "1.10"]
)
def test_a_parameter_comes_back_as_the_text_that_it_was(text: str) -> None:
    assert shown(stored(text)) == text
