"""The problems with which a mutation can end. Each is made from the error that `db` raised, if the mutation's result has it as a member."""

from collections.abc import Awaitable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Final, Self, cast

import strawberry
from graphql import GraphQLError

from db import errors
from graph.core.costs import costs
from graph.core.enums import describe
from graph.core.scalars import BigInt


class ProblemCode(StrEnum):
    NOT_FOUND = "not_found"
    NAME_TAKEN = "name_taken"
    INVALID_INPUT = "invalid_input"
    WRONG_STATE = "wrong_state"
    BLOCKED = "blocked"
    CONFLICT = "conflict"
    QUOTA_EXCEEDED = "quota_exceeded"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    UNSUPPORTED = "unsupported"
    UPLOAD_MISMATCH = "upload_mismatch"
    INVALID_CREDENTIALS = "invalid_credentials"
    WEAK_PASSWORD = "weak_password"  # noqa: S105 - the name of a problem
    LAST_ADMIN = "last_admin"


describe(
    ProblemCode,
    "The kind of problem, for clients that do not know its type yet.",
    NOT_FOUND="An id names nothing that exists and that you may see.",
    NAME_TAKEN="You already have something with this name, or somebody has the username.",
    INVALID_INPUT="The input is invalid; each issue has the path to its cause.",
    WRONG_STATE="It exists, but its present state does not allow this.",
    BLOCKED="Something uses it, so it cannot be deleted now.",
    CONFLICT="A concurrent change came first, or the idempotency key was used with another input.",
    QUOTA_EXCEEDED="The request would exceed a limit on what you may store or use.",
    INSUFFICIENT_CREDITS="The request costs more credits than you can spend.",
    UNSUPPORTED="This cannot be done with it, whatever else the input says.",
    UPLOAD_MISMATCH="The uploaded file is not the one that was announced.",
    INVALID_CREDENTIALS="Nobody can sign in with these credentials.",
    WEAK_PASSWORD="The new password is too easy to guess.",  # noqa: S106 - a description
    LAST_ADMIN="No admin would be left.",
)


@strawberry.interface(description="The reason why a mutation did not do what was requested. Nothing was changed.")
class Problem:
    message: str = strawberry.field(description="What happened, where, and what to do next; for display.")
    code: ProblemCode = strawberry.field(description="The kind of problem, to branch on.")


@strawberry.type(description="Nothing with this id exists that you may see.")
class NotFound(Problem):
    id: strawberry.ID = strawberry.field(description="The id as it was sent.")

    @classmethod
    def of(cls, error: errors.NotFound, *input_ids: str | None) -> Self:
        """Make it with the id that the client sent, which is one of `input_ids`: the services' error knows only the key."""
        key = error.id.replace("-", "")
        client_id = next((text for text in input_ids if text is not None and text.endswith(f"_{key}")), error.id)
        return cls(message=errors.NotFound(client_id).message, code=ProblemCode.NOT_FOUND, id=strawberry.ID(client_id))


@strawberry.type(
    description="You already have one with this name that is not deleted; of usernames, somebody has it. Names are compared ignoring case."
)
class NameTaken(Problem):
    name: str = strawberry.field(description="The name that is taken.")

    @classmethod
    def of(cls, error: errors.NameTaken) -> Self:
        return cls(message=error.message, code=ProblemCode.NAME_TAKEN, name=error.name)


@strawberry.type(description="One error in an input.")
class InputIssue:
    path: list[str] = strawberry.field(
        description='The path from the root of the input, with list positions as digits: ["definition", "nodes", "2", "parameters", "alpha"].'
    )
    message: str = strawberry.field(description="What is wrong, and what would be valid.")


@strawberry.type(description="The input is invalid.")
class InvalidInput(Problem):
    issues: list[InputIssue] = strawberry.field(metadata=costs(entries=1), description="All errors that were found.")

    @classmethod
    def of(cls, error: errors.InvalidInput) -> Self:
        issues = [InputIssue(path=list(issue.path), message=issue.message) for issue in error.issues]
        return cls(message=error.message, code=ProblemCode.INVALID_INPUT, issues=issues)


@strawberry.type(description="The new password is too easy to guess.")
class WeakPassword(Problem):
    issues: list[InputIssue] = strawberry.field(metadata=costs(entries=1), description="What is wrong with it.")

    @classmethod
    def of(cls, error: errors.WeakPassword) -> Self:
        issues = [InputIssue(path=list(issue.path), message=issue.message) for issue in error.issues]
        return cls(message=error.message, code=ProblemCode.WEAK_PASSWORD, issues=issues)


@strawberry.type(description="It exists, but its present state does not allow this.")
class WrongState(Problem):
    state: str = strawberry.field(description="Its present state.")

    @classmethod
    def of(cls, error: errors.WrongState) -> Self:
        return cls(message=error.message, code=ProblemCode.WRONG_STATE, state=error.state)


describe(
    errors.BlockReason,
    "What keeps something from being deleted.",
    JOBS="Jobs that use it have not ended: wait for them or cancel them.",
    STUDIES="Studies that use it have not ended, or it is one: cancel them.",
    PRODUCTION="A model version with the alias `production` is a part of it, or was trained on it: remove the alias.",
    ALIASES="Aliases point to the model version: remove them, or point them elsewhere.",
)
BlockReason = errors.BlockReason


@strawberry.type(description="Something uses it, so it cannot be deleted now.")
class Blocked(Problem):
    reason: BlockReason = strawberry.field(description="Why; there may be further reasons, which `deletionPreview` lists.")
    ids: list[strawberry.ID] = strawberry.field(description="The ids of what uses it, at most 10, the oldest first.")
    count: BigInt = strawberry.field(description="How many there are.")

    @classmethod
    def of(cls, error: errors.Blocked) -> Self:
        ids = [strawberry.ID(f"{error.kind}_{key.hex}") for key in error.ids]
        return cls(message=error.message, code=ProblemCode.BLOCKED, reason=error.reason, ids=ids, count=BigInt(error.count))


@strawberry.type(description="A concurrent change came first, or the idempotency key was used with another input.")
class Conflict(Problem):
    @classmethod
    def of(cls, error: errors.Conflict) -> Self:
        return cls(message=error.message, code=ProblemCode.CONFLICT)


@strawberry.type(description="This cannot be done with it, such as to convert a model to a format that has no form of it.")
class Unsupported(Problem):
    @classmethod
    def of(cls, error: errors.Unsupported) -> Self:
        return cls(message=error.message, code=ProblemCode.UNSUPPORTED)


@strawberry.type(description="No admin would be left who can sign in. Make another user an admin first.")
class LastAdmin(Problem):
    @classmethod
    def of(cls, error: errors.LastAdmin) -> Self:
        return cls(message=error.message, code=ProblemCode.LAST_ADMIN)


@strawberry.type(description="Nobody can sign in with these credentials. It is not told which part of them is wrong.")
class InvalidCredentials(Problem):
    @classmethod
    def of(cls, error: errors.InvalidCredentials) -> Self:
        return cls(message=error.message, code=ProblemCode.INVALID_CREDENTIALS)


@strawberry.type(description="The uploaded file is not the one that was announced. It has been removed.")
class UploadMismatch(Problem):
    expected: str = strawberry.field(description="The size or the checksum that was announced.")
    actual: str = strawberry.field(description="The size or the checksum of what was uploaded.")

    @classmethod
    def of(cls, error: errors.UploadMismatch) -> Self:
        return cls(message=error.message, code=ProblemCode.UPLOAD_MISMATCH, expected=error.expected, actual=error.actual)


@strawberry.type(description="The request would exceed a limit on what you may store or use.")
class QuotaExceeded(Problem):
    resource: str = strawberry.field(description="The limited resource.")
    limit: BigInt = strawberry.field(description="The most that you may have of it.")
    used: BigInt = strawberry.field(description="How much of it you have now.")

    @classmethod
    def of(cls, error: errors.QuotaExceeded) -> Self:
        return cls(
            message=error.message,
            code=ProblemCode.QUOTA_EXCEEDED,
            resource=error.resource,
            limit=error.limit,
            used=error.used,
        )


@strawberry.type(
    description="The request costs more credits than the owner can spend. Credits that unfinished jobs hold cannot be spent. Or a"
    " budget of the team or the experiment leaves fewer; the message names it."
)
class InsufficientCredits(Problem):
    required: BigInt = strawberry.field(description="The cost in credits.")
    available: BigInt = strawberry.field(description="The credits that can be spent.")

    @classmethod
    def of(cls, error: errors.InsufficientCredits) -> Self:
        return cls(message=error.message, code=ProblemCode.INSUFFICIENT_CREDITS, required=error.required, available=error.available)


_PROBLEMS: Final[Mapping[type[errors.StateError], Any]] = {
    errors.NotFound: NotFound,
    errors.NameTaken: NameTaken,
    errors.InvalidInput: InvalidInput,
    errors.WeakPassword: WeakPassword,
    errors.WrongState: WrongState,
    errors.Blocked: Blocked,
    errors.Conflict: Conflict,
    errors.Unsupported: Unsupported,
    errors.LastAdmin: LastAdmin,
    errors.InvalidCredentials: InvalidCredentials,
    errors.UploadMismatch: UploadMismatch,
    errors.QuotaExceeded: QuotaExceeded,
    errors.InsufficientCredits: InsufficientCredits,
}


def problem_of(error: errors.StateError, *sent_ids: str) -> Any:
    """The problem of an error that is a part of an answer, and not all of it; it has the id that the client sent."""
    problem = next(_PROBLEMS[type_] for type_ in type(error).__mro__ if type_ in _PROBLEMS)
    return problem.of(error, *(sent_ids if problem is NotFound else ()))


async def result_or_problem(result: Awaitable[Any], possible: Collection[type[Any]], arguments: Mapping[str, Any]) -> Any:
    """Await a mutation. An error that is one of the `possible` types of its result becomes this problem; others are raised."""
    try:
        return await result
    except errors.TooManyAttempts as error:
        raise GraphQLError(error.message, extensions={"code": "RATE_LIMITED", "retryAfter": error.retry_seconds}) from None
    except errors.StateError as error:
        problem = next((_PROBLEMS[type_] for type_ in type(error).__mro__ if _PROBLEMS.get(type_) in possible), None)
        if problem is None:
            raise
        sent_ids = sent_texts(arguments) if problem is NotFound else ()
        return cast("Any", problem).of(error, *sent_ids)


def sent_texts(value: Any) -> Iterator[str]:
    """The texts in arguments, ids among them."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from sent_texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[str, Any]", value).values():
            yield from sent_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from sent_texts(inner)
