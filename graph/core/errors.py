"""Errors that fields raise with a message for clients. `graph.execution.errors` maps each to its code."""

from __future__ import annotations


class Unauthenticated(Exception):
    """The field requires a signed-in user."""

    def __str__(self) -> str:
        return "Sign in first: send your token as `Authorization: Bearer <token>`, or on a websocket in the payload of connection_init."


class BadUserInput(Exception):
    """An argument has an invalid value; the message says which and why."""
