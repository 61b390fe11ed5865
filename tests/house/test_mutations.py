"""Every mutation has endings in `tests/endings`, which `tests/graph/test_mutation_endings.py` sends."""

from __future__ import annotations

from tests.endings import cases
from tests.served_schema import SERVED


def test_every_mutation_declares_how_it_ends() -> None:
    mutation_type = SERVED.mutation_type
    assert mutation_type is not None
    assert sorted(cases()) == sorted(mutation_type.fields), "Declare the endings of a mutation in tests/endings/<domain>.py."
