"""The exceptions of the S3 client, translated into ours.

The libraries are imported with the first client, since that takes a tenth of a start. An `except` clause asks for their exceptions by a function,
which is called only when there is an exception.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from db.errors import StateError, StoreRefused, Unavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

SERVICE = "object storage"
MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound"})
REFUSED_STATUSES = frozenset({401, 403})


@dataclass
class ObjectMissing(StateError):
    """The store has no object under this key, though a row or a caller says so."""

    key: str

    def __str__(self) -> str:
        return f"The object {self.key!r} is not in the store."


def refusals() -> type[ClientError]:
    """The exception for an answer that is an error."""
    from botocore.exceptions import ClientError

    return ClientError


def interruptions() -> tuple[type[Exception], ...]:
    """The exceptions for an answer that does not come, or not to its end."""
    import aiohttp
    from botocore.exceptions import BotoCoreError

    return BotoCoreError, aiohttp.ClientError, TimeoutError, OSError


def error_code(error: ClientError) -> str:
    """Return the code of S3's API, such as `NoSuchKey`."""
    return cast("dict[str, dict[str, str]]", error.response).get("Error", {}).get("Code", "")


def status_of(error: ClientError) -> int | None:
    """Return the HTTP status of the response."""
    response = cast("dict[str, Any]", error.response)
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode")


@contextmanager
def translate_errors(key: str | None = None) -> Generator[None]:
    """Translate the client's exceptions into ours; a missing object becomes `ObjectMissing` if `key` is given."""
    try:
        yield
    except refusals() as error:
        if key is not None and error_code(error) in MISSING_CODES:
            raise ObjectMissing(key) from error
        if (status := status_of(error)) in REFUSED_STATUSES:
            code = error_code(error)
            raise StoreRefused(SERVICE, str(error), f"status {status}" if code == str(status) else f"{code}, status {status}") from error
        raise Unavailable(SERVICE, str(error)) from error
    except interruptions() as error:
        raise Unavailable(SERVICE, repr(error)) from error
