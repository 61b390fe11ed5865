"""From what a request carries to the document that it means: its text, the hash of a text sent before, or the id of a trusted document.

The hash is Apollo's protocol: `extensions.persistedQuery {version: 1, sha256Hash}`, first alone and, when it is not known, once more with
the text, which registers it. The id is `documentId`, as the GraphQL over HTTP working group's draft on persisted documents has it.
Source: https://github.com/apollographql/apollo-link-persisted-queries#protocol
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import UUID

import orjson
from graphql import GraphQLError

from graph.core.documents import LONGEST, Documents

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Refused(GraphQLError):
    """The request means no document that may be run; `extensions.code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, extensions={"code": code})


class Register(Protocol):
    """Where texts lie by their hash."""

    async def get(self, sha256: str) -> str | None: ...

    async def put(self, sha256: str, text: str, size: int, owner: UUID) -> None: ...


class Persisted:
    """The trusted documents and the registered ones. With `only_trusted` nothing else is run, however it is sent."""

    def __init__(self, register: Register | None, trusted: Mapping[str, str], *, only_trusted: bool, longest: int) -> None:
        self._register = register
        self._trusted = trusted
        self._texts = frozenset(trusted.values())
        self._only_trusted = only_trusted
        self._longest = longest
        self._near: Documents[str] = Documents()

    async def resolve(self, query: object, document_id: object, extensions: object) -> str | None:
        """The text to be run; None where the request carries nothing of all this. Raises `Refused`."""
        if document_id is not None:
            return self._by_id(query, document_id)
        sha256 = hash_in(extensions)
        if sha256 is not None:
            return await self._by_hash(query, sha256)
        if query is None:
            return None
        if not isinstance(query, str):
            raise Refused("BAD_REQUEST", "`query` must be a string: the document.")
        if self._only_trusted and query not in self._texts:
            raise _not_trusted()
        return query

    async def register(self, sha256: str, text: str, owner: UUID) -> None:
        """Keep a document under its hash, once it has passed all that stands before its operation: others' must not leave for garbage."""
        size = len(_bytes(text))
        if size > LONGEST or sha256 in self._trusted or self._only_trusted:
            return
        if self._register is not None:
            await self._register.put(sha256, text, size, owner)
        self._near.keep(sha256, text, characters=size)

    def _by_id(self, query: object, document_id: object) -> str:
        if not isinstance(document_id, str):
            raise Refused("BAD_REQUEST", "`documentId` must be a string.")
        if query:
            raise Refused("BAD_REQUEST", "Send `query` or `documentId`, not both.")
        text = self._trusted.get(document_id) or self._trusted.get(document_id.removeprefix("sha256:"))
        if text is None:
            raise Refused("DOCUMENT_NOT_FOUND", "No trusted document has this `documentId`. Deploy it to the server before the client.")
        return text

    async def _by_hash(self, query: object, sha256: str) -> str:
        trusted = self._trusted.get(sha256)
        if trusted is not None:
            if query and query != trusted:
                raise Refused("BAD_REQUEST", "`query` is not the trusted document of this hash. Send the hash alone.")
            return trusted
        if self._only_trusted:
            raise _not_trusted()
        if query is None or query == "":
            text = self._near.get(sha256)
            if text is None and self._register is not None:
                text = await self._register.get(sha256)
            if text is None:
                # Apollo's clients know this message by heart.
                raise Refused("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
            self._near.keep(sha256, text, characters=len(text))
            return text
        if not isinstance(query, str) or len(query) > self._longest or len(_bytes(query)) > self._longest:
            raise Refused("BAD_REQUEST", f"`query` must be a document of at most {self._longest:,} bytes.")
        if hashlib.sha256(_bytes(query)).hexdigest() != sha256:
            raise Refused("BAD_REQUEST", "`extensions.persistedQuery.sha256Hash` is not the SHA-256 of `query`, in hex digits.")
        return query


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def hash_in(extensions: object) -> str | None:
    """The hash that Apollo's protocol carries; None where it is not used."""
    if not isinstance(extensions, dict):
        return None
    persisted = cast("dict[str, Any]", extensions).get("persistedQuery")
    if persisted is None:
        return None
    if not isinstance(persisted, dict):
        raise Refused("BAD_REQUEST", "`extensions.persistedQuery` must be an object: {version: 1, sha256Hash}.")
    found = cast("dict[str, Any]", persisted)
    version = found.get("version", 1)
    if type(version) is not int or version != 1:  # true and 1.0 equal it in Python alone
        raise Refused("PERSISTED_QUERY_NOT_SUPPORTED", "PersistedQueryNotSupported")
    sha256 = found.get("sha256Hash")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise Refused("BAD_REQUEST", "`extensions.persistedQuery.sha256Hash` must be 64 hex digits.")
    return sha256.lower()


def _not_trusted() -> Refused:
    return Refused(
        "DOCUMENT_REQUIRED", "This server runs trusted documents alone. Send the `documentId` of one instead of a text or a hash."
    )


def trusted_documents(path: Path | None) -> dict[str, str]:
    """Documents by id from `{"id": "document"}`, or from Apollo's manifest. Raises `ValueError` for any other file."""
    if path is None:
        return {}
    try:
        content: Any = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ValueError(f"TRELLIS_DOCUMENTS_FILE names {path}, which cannot be read as JSON: {error}") from error
    found: dict[Any, Any] = {}
    if isinstance(content, dict):
        manifest = cast("dict[str, Any]", content)
        operations = manifest.get("operations")
        if isinstance(operations, list):
            entries = cast("list[Any]", operations)
            found = {entry.get("id"): entry.get("body") for entry in entries if isinstance(entry, dict)}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
        else:
            found = manifest
    if not found or not all(isinstance(text, str) and text and isinstance(id_, str) for id_, text in found.items()):
        raise ValueError(
            f'{path} holds no trusted documents. It must be {{"id": "document", …}} or Apollo\'s manifest: {{"operations": [{{"id", "body"}}, …]}}.'
        )
    return found
