"""The operations of one request, or of one websocket, share its services and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any, cast
from uuid import uuid4

import pytest

from db.core.networks import ClientInfo
from db.core.viewer import UserRole, Viewer
from graph.execution.context import RequestServices

VIEWER = Viewer(uuid4(), UserRole.MEMBER)


def services() -> RequestServices:
    shared: Any = [object() for _ in range(5)]
    return RequestServices(*shared, client=ClientInfo("192.0.2.1"))


def test_operations_share_no_state() -> None:
    request = services()
    first, second = (request.for_operation(VIEWER) for _ in range(2))
    shared = {id(getattr(request, field.name)) for field in dataclasses.fields(request)} | {id(request), id(VIEWER)}
    immutable = (str, int, bool, type(None))
    for field in dataclasses.fields(first):
        mine, others = getattr(first, field.name), getattr(second, field.name)
        assert mine is not others or id(mine) in shared or isinstance(mine, immutable), field.name
    assert first.request_id != second.request_id
    first.progress.last_cursor, first.prepaid_points, first.phase = "cursor", 7, "execute"
    assert (second.progress.last_cursor, second.prepaid_points, second.phase) == (None, 0, "parse")


def test_the_services_of_a_request_are_immutable() -> None:
    request = services()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cast("Any", request).client = ClientInfo("192.0.2.2")


def test_a_resumed_stream_begins_after_its_cursor() -> None:
    assert services().for_operation(VIEWER, after="cursor").progress.after == "cursor"
