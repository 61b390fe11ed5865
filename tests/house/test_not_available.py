"""The schema says of what no code does yet that it is not available, and of nothing else."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from graphql import GraphQLEnumType

from db.services.jobs.kinds import declared_kinds
from db.tables.datasets import FileFormat, Modality
from db.tables.jobs import JobKind
from db.tables.pipelines import StepType
from graph.schema import schema
from workers.ml.steps import DEFINITIONS

AVAILABLE: dict[type[Enum], set[Any]] = {
    JobKind: {*declared_kinds(), JobKind.STUDY, JobKind.TRIAL},  # no job has these two, and their descriptions say so
    StepType: {StepType[definition["type"]] for definition in DEFINITIONS},
    FileFormat: {*FileFormat},
    Modality: {*Modality},
}


@pytest.mark.parametrize("enum", AVAILABLE)
def test_exactly_the_members_that_no_code_handles_are_said_to_be_unavailable(enum: type[Enum]) -> None:
    published = schema._schema.type_map[enum.__name__]
    assert isinstance(published, GraphQLEnumType)
    unavailable = {name for name, value in published.values.items() if (value.description or "").endswith("Not available yet.")}
    assert unavailable == {member.name for member in enum} - {member.name for member in AVAILABLE[enum]}
