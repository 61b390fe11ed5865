"""Users: fixtures create them, so this factory adds no rows."""

from __future__ import annotations

from db.tables import User
from tests.factories import Factory

FACTORY = Factory(ids={"user": User})
