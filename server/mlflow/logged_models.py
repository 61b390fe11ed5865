"""Logged models of the client of version 3. None are kept yet, which its downloads ask before they look at the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db.core.viewer import ApiScope
from server.mlflow.requests import Call, Endpoint


async def search(_: Call) -> Mapping[str, Any]:
    return {"models": []}


ENDPOINTS = (Endpoint("POST", "/mlflow/logged-models/search", ApiScope.READ, search),)
