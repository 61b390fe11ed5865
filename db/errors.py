"""Expected errors of the state package. Packages above turn them into problems or top-level errors; any other exception is a bug."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import NamedTuple
from uuid import UUID


class Issue(NamedTuple):
    """One thing wrong with an input; `path` starts at the input's root, list indexes are decimal strings."""

    path: tuple[str, ...]
    message: str


class StateError(Exception):
    """Root of the expected errors."""

    @property
    def message(self) -> str:
        return str(self)


@dataclass
class NotFound(StateError):
    """The row does not exist or the viewer may not see it; the two are indistinguishable."""

    id: str

    def __str__(self) -> str:
        return f"There is nothing with the id {self.id!r} that you can see."


class SignedOut(StateError):
    """The token of a long-lived connection was revoked or has expired, or its user was deleted."""

    def __str__(self) -> str:
        return (
            "You have been signed out: your token was revoked or has expired. Sign in again with a valid one, then go on from your cursor."
        )


@dataclass
class NameTaken(StateError):
    """A row of the same owner that is not deleted has this name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"You already have a {self.kind} named {self.name!r}. Choose another name, or rename or delete that one."


class UsernameTaken(NameTaken):
    """Another user has this username; usernames are public, so it may be told."""

    def __init__(self, username: str) -> None:
        super().__init__("user", username)

    def __str__(self) -> str:
        return f"The username {self.name!r} is taken. Choose another."


class EmailTaken(NameTaken):
    """Another user has this address. Only operators, who can list users, are told."""

    def __init__(self, email: str) -> None:
        super().__init__("user", email)

    def __str__(self) -> str:
        return f"Another user has the address {self.name!r}. Each address is of one user: give another."


class AddressTaken(NameTaken):
    """Another user has the address of an account that is to be restored. Only who proved that it is theirs is told."""

    def __init__(self) -> None:
        super().__init__("user", "email")

    def __str__(self) -> str:
        return "Another account has the address of this one by now. Change the address of that one first, or ask whoever runs this Trellis."


@dataclass
class InvalidInput(StateError):
    """The input is invalid; all issues are listed."""

    issues: list[Issue]

    def __str__(self) -> str:
        first = self.issues[0]
        more = f" (and {len(self.issues) - 1} more)" if len(self.issues) > 1 else ""
        return f"{'.'.join(first.path)}: {first.message}{more}"


def invalid(*path: str | int, message: str) -> InvalidInput:
    """An `InvalidInput` with one issue at `path`."""
    return InvalidInput([Issue(tuple(str(part) for part in path), message)])


@dataclass
class WrongState(StateError):
    """The row exists but is not in a state that allows this."""

    state: str
    explanation: str

    def __str__(self) -> str:
        return self.explanation


class LastAdmin(StateError):
    """No admin would be left who can sign in."""

    def __str__(self) -> str:
        return "This is the last admin. Give another user the role ADMIN first, or enable another admin, and then repeat this."


class LastTeamAdmin(LastAdmin):
    """Teams, which are named, would be left without an ADMIN who can sign in."""

    def __init__(self, teams: Sequence[str]) -> None:
        super().__init__()
        self.teams = teams

    def __str__(self) -> str:
        them = "it" if len(self.teams) == 1 else "each"
        return (
            f"This would leave {', '.join(self.teams)} without an ADMIN. Give another member of {them} the role ADMIN with `setTeamRole`, or delete"
            f" {them}, and then repeat this."
        )


class BlockReason(StrEnum):
    """Why something cannot be deleted now."""

    JOBS = "jobs"
    STUDIES = "studies"
    PRODUCTION = "production"
    ALIASES = "aliases"


@dataclass
class Blocked(WrongState):
    """Something uses what is to be deleted: `count` rows, whose ids have the prefix `kind`; the first of them are in `ids`."""

    reason: BlockReason
    kind: str
    ids: Sequence[UUID]
    count: int


@dataclass
class Conflict(StateError):
    """A concurrent change was first, or an idempotency key was used with another input."""

    explanation: str

    def __str__(self) -> str:
        return self.explanation


@dataclass
class Unsupported(StateError):
    """What is asked for exists in principle, but not for this thing; no other input of this kind would help."""

    explanation: str

    def __str__(self) -> str:
        return self.explanation


@dataclass
class UploadMismatch(StateError):
    """The uploaded object differs from what was announced."""

    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"The uploaded file's {self.what} is {self.actual}, {self.expected} was announced. Ask for a new upload and send the file again."


@dataclass
class QuotaExceeded(StateError):
    """The change would exceed the owner's limit on a resource."""

    resource: str
    limit: int
    used: int

    def __str__(self) -> str:
        return f"This would exceed your limit of {self.limit} for {self.resource}; {self.used} are used. Ask whoever runs this Trellis for a higher limit."


@dataclass
class InsufficientCredits(StateError):
    """The owner has fewer credits than required; credits held for running jobs cannot be spent."""

    required: int
    available: int

    def __str__(self) -> str:
        return (
            f"This takes {self.required} credit{'' if self.required == 1 else 's'}, and {self.available} can be spent. Wait for jobs under way"
            " to give back what they hold, or ask whoever runs this Trellis for more."
        )


@dataclass
class BudgetExceeded(InsufficientCredits):
    """A budget leaves fewer credits than required. `subject` is what it is the budget of."""

    subject: str
    limit: int

    def __str__(self) -> str:
        return (
            f"This takes {self.required} credit{'' if self.required == 1 else 's'}, and the budget of {self.subject} leaves {self.available} of its {self.limit}."
            " Wait for jobs under way to give back what they hold, or raise it with `setBudget`."
        )


@dataclass
class Unavailable(StateError):
    """A service that Trellis depends on does not answer."""

    service: str
    detail: str = field(default="")

    def __str__(self) -> str:
        return f"The {self.service} does not answer at the moment. Try again in a few seconds."


@dataclass
class StoreRefused(Unavailable):
    """The object store answers, and refuses the credentials: waiting does not help. `reason` is its code, or the status of its answer."""

    reason: str = ""

    def __str__(self) -> str:
        return (
            f"The {self.service} refused the credentials of Trellis ({self.reason}). Its operator must correct TRELLIS_S3_ACCESS_KEY_ID and "
            "TRELLIS_S3_SECRET_ACCESS_KEY, or allow them to use the bucket."
        )


@dataclass
class InvalidCredentials(StateError):
    """Nobody can sign in with these credentials; the text is the same whatever is wrong with them."""

    explanation: str = "No account has this name and this password, or it cannot be used. Check both, or reset the password."

    def __str__(self) -> str:
        return self.explanation


@dataclass
class WeakPassword(InvalidInput):
    """The new password is too easy to guess."""


@dataclass
class TooManyAttempts(StateError):
    """Too many sign-ins failed lately, or too many mails were asked for; the next attempt can succeed after `retry_in` seconds."""

    retry_in: float

    @property
    def retry_seconds(self) -> int:
        return max(ceil(self.retry_in), 1)

    def __str__(self) -> str:
        return f"Too many attempts. Try again in {self.retry_seconds} s."


@dataclass
class MailVoid(StateError):
    """What a mail is about has ended, so it is not sent."""

    explanation: str

    def __str__(self) -> str:
        return self.explanation


class MailSuppressed(MailVoid):
    """The reader of a mail is not to have it any more, so it is not sent."""


class NoSecretKey(StateError):
    """A token or an encrypted secret cannot be made or read."""

    def __str__(self) -> str:
        return (
            "TRELLIS_SECRET_KEY is not set. Tokens in mails and second factors need it, the same for the API, the workers and the commands."
        )


@dataclass
class DatabaseNotMigrated(StateError):
    """A table or column of this release does not exist; `detail` is PostgreSQL's message."""

    detail: str

    def __str__(self) -> str:
        return f"The database of TRELLIS_DATABASE_URL is not that of this release: {self.detail}. Run `trellis migrate` first."


class Forbidden(StateError):
    """The viewer's role or API key does not allow this at all."""


class MissingScope(Forbidden):
    """The API key lacks a scope. GraphQL adds `extensions` to those of its error."""

    def __init__(self, scope: str, place: str) -> None:
        super().__init__(
            f"This API key lacks the scope {scope}, which {place} needs. Use a key that has it: its owner makes one with `createApiKey`."
        )
        self.extensions = {"scope": scope}


class InvalidCursor(StateError):
    """The cursor does not belong to this list and order."""
