"""Every way in which a use of the state can be refused. Rooms above turn them into problems or top-level errors; anything else is a bug."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Issue(NamedTuple):
    """One thing wrong with an input: `path` leads to it from the input's root, list positions as decimal strings."""

    path: tuple[str, ...]
    message: str


class StateError(Exception):
    """Root of the expected errors."""

    @property
    def message(self) -> str:
        return str(self)


@dataclass
class NotFound(StateError):
    """No such row, or none that the viewer may see: the two are never told apart."""

    id: str

    def __str__(self) -> str:
        return f"There is nothing with the id {self.id!r} that you can see."


class SignedOut(StateError):
    """The token that a connection was opened with has been revoked or has expired, or its user is gone."""

    def __str__(self) -> str:
        return (
            "You have been signed out: your token was revoked or has expired. Sign in again with a valid one, then go on from your cursor."
        )


@dataclass
class NameTaken(StateError):
    """A live row of the same owner has the name already."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"You already have a {self.kind} named {self.name!r}. Choose another name, or rename or delete that one."


@dataclass
class InvalidInput(StateError):
    """The input breaks a rule; every issue found is listed."""

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


@dataclass
class Conflict(StateError):
    """Somebody was faster, or an idempotency key was used for something else."""

    explanation: str

    def __str__(self) -> str:
        return self.explanation


@dataclass
class UploadMismatch(StateError):
    """What lies in the store is not what was announced."""

    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"The uploaded file's {self.what} is {self.actual}, {self.expected} was announced. Ask for a new upload and send the file again."


@dataclass
class QuotaExceeded(StateError):
    """The owner's limit on a resource would be passed."""

    resource: str
    limit: int
    used: int

    def __str__(self) -> str:
        return f"This would exceed your limit of {self.limit} for {self.resource}; {self.used} are used. Delete something first, or ask for a higher limit."


@dataclass
class InsufficientCredits(StateError):
    """It costs more than its owner has; what jobs under way hold cannot be spent."""

    required: int
    available: int

    def __str__(self) -> str:
        return (
            f"This takes {self.required} credit{'' if self.required == 1 else 's'}, and {self.available} can be spent. Wait for jobs under way"
            " to give back what they hold, or ask whoever runs this Trellis for more."
        )


@dataclass
class Unavailable(StateError):
    """A service that Trellis stands on does not answer."""

    service: str
    detail: str = field(default="")

    def __str__(self) -> str:
        return f"The {self.service} does not answer at the moment. Try again in a few seconds."


class Forbidden(StateError):
    """The viewer's role does not allow this at all."""


class InvalidCursor(StateError):
    """A cursor that this list did not make."""
