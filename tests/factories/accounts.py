"""Users: the fixtures of the tests make them, so there are no rows to be added."""

from __future__ import annotations

from db.tables import User
from tests.factories import Factory

FACTORY = Factory(ids={"user": User})
