"""The ways in which a mutation can end other than well. Each is made of the error that the state room raised."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

import strawberry

from db import errors
from graph.core.costs import costs
from graph.core.enums import describe
from graph.core.scalars import BigInt


class ProblemCode(StrEnum):
    NOT_FOUND = "not_found"
    NAME_TAKEN = "name_taken"
    INVALID_INPUT = "invalid_input"
    WRONG_STATE = "wrong_state"
    CONFLICT = "conflict"
    QUOTA_EXCEEDED = "quota_exceeded"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    UPLOAD_MISMATCH = "upload_mismatch"


describe(
    ProblemCode,
    "Which problem it is, for clients that do not know its type yet.",
    NOT_FOUND="What an id names does not exist, or is not yours to see.",
    NAME_TAKEN="You have something of this name already.",
    INVALID_INPUT="The input breaks rules, each named with the path to it.",
    WRONG_STATE="It exists, but is not in a state that allows this.",
    CONFLICT="Somebody was faster, or an idempotency key was used for something else.",
    QUOTA_EXCEEDED="A limit on what you may keep or use would be passed.",
    INSUFFICIENT_CREDITS="It costs more credits than you have.",
    UPLOAD_MISMATCH="What lies in the store is not what was announced.",
)


@strawberry.interface(description="A way in which a mutation did not do what was asked; nothing was changed.")
class Problem:
    message: str = strawberry.field(description="What happened, where, and what to do next, for people.")
    code: ProblemCode = strawberry.field(description="The kind of problem, for programs.")


@strawberry.type(description="There is nothing with this id that you can see.")
class NotFound(Problem):
    id: strawberry.ID = strawberry.field(description="The id as it was given.")

    @classmethod
    def of(cls, error: errors.NotFound, *input_ids: str | None) -> Self:
        """`given` are the ids in the client's input: services know keys alone, and the client is told the id that it sent."""
        key = error.id.replace("-", "")
        client_id = next((text for text in input_ids if text is not None and text.endswith(f"_{key}")), error.id)
        return cls(message=errors.NotFound(client_id).message, code=ProblemCode.NOT_FOUND, id=strawberry.ID(client_id))


@strawberry.type(description="A live row of yours has this name; names are compared without regard to case.")
class NameTaken(Problem):
    name: str = strawberry.field(description="The name that is taken.")

    @classmethod
    def of(cls, error: errors.NameTaken) -> Self:
        return cls(message=error.message, code=ProblemCode.NAME_TAKEN, name=error.name)


@strawberry.type(description="One thing that is wrong with an input.")
class InputIssue:
    path: list[str] = strawberry.field(
        description='Where it is, from the input\'s root, list positions as digits: ["definition", "nodes", "2", "parameters", "alpha"].'
    )
    message: str = strawberry.field(description="What is wrong with it and what would be right.")


@strawberry.type(description="The input breaks rules.")
class InvalidInput(Problem):
    issues: list[InputIssue] = strawberry.field(metadata=costs(entries=1), description="Everything that was found wrong.")

    @classmethod
    def of(cls, error: errors.InvalidInput) -> Self:
        issues = [InputIssue(path=list(issue.path), message=issue.message) for issue in error.issues]
        return cls(message=error.message, code=ProblemCode.INVALID_INPUT, issues=issues)


@strawberry.type(description="It exists, but is not in a state that allows this.")
class WrongState(Problem):
    state: str = strawberry.field(description="The state that it is in.")

    @classmethod
    def of(cls, error: errors.WrongState) -> Self:
        return cls(message=error.message, code=ProblemCode.WRONG_STATE, state=error.state)


@strawberry.type(description="Somebody changed it first, or the idempotency key was used with another input.")
class Conflict(Problem):
    @classmethod
    def of(cls, error: errors.Conflict) -> Self:
        return cls(message=error.message, code=ProblemCode.CONFLICT)


@strawberry.type(description="What lies in the store is not what was announced; it has been removed.")
class UploadMismatch(Problem):
    expected: str = strawberry.field(description="The size or the checksum that was announced.")
    actual: str = strawberry.field(description="The size or the checksum of what was uploaded.")

    @classmethod
    def of(cls, error: errors.UploadMismatch) -> Self:
        return cls(message=error.message, code=ProblemCode.UPLOAD_MISMATCH, expected=error.expected, actual=error.actual)


@strawberry.type(description="A limit on what you may keep or use would be passed.")
class QuotaExceeded(Problem):
    resource: str = strawberry.field(description="What is limited.")
    limit: BigInt = strawberry.field(description="How much of it you may have.")
    used: BigInt = strawberry.field(description="How much of it you have.")

    @classmethod
    def of(cls, error: errors.QuotaExceeded) -> Self:
        return cls(
            message=error.message,
            code=ProblemCode.QUOTA_EXCEEDED,
            resource=error.resource,
            limit=error.limit,
            used=error.used,
        )


@strawberry.type(description="It costs more credits than its owner can spend; what jobs under way hold is not among these.")
class InsufficientCredits(Problem):
    required: BigInt = strawberry.field(description="What it costs.")
    available: BigInt = strawberry.field(description="What can be spent.")

    @classmethod
    def of(cls, error: errors.InsufficientCredits) -> Self:
        return cls(message=error.message, code=ProblemCode.INSUFFICIENT_CREDITS, required=error.required, available=error.available)
