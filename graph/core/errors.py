"""Errors that fields raise and clients may read. `graph.execution.errors` gives each its code."""

from __future__ import annotations


class Unauthenticated(Exception):
    """Nobody is signed in, and the field requires it."""

    def __str__(self) -> str:
        return "Sign in first: send your token as `Authorization: Bearer <token>`, on a websocket in the payload of connection_init."


class BadUserInput(Exception):
    """An argument has a value that the field cannot take; the message says which and why."""
