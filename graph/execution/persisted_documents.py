"""Finds the document of a request: by its text, the hash of a text that was sent before, or the id of a trusted document.

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

from graph.execution.document_cache import MAX_DOCUMENT_CHARACTERS, DocumentCache

_SHA256 = re.compile(r"[0-9a-f]{64}")


class DocumentRejected(GraphQLError):
    """The request names no document that may be executed; `extensions.code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, extensions={"code": code})


class DocumentStore(Protocol):
    """A store of texts by their hash."""

    async def get(self, sha256: str) -> str | None: ...

    async def put(self, sha256: str, text: str, size: int, owner: UUID) -> None: ...


class PersistedDocuments:
    """The trusted documents and the registered ones. With `only_trusted` only the trusted ones are executed, however they are sent."""

    def __init__(self, store: DocumentStore | None, trusted: Mapping[str, str], *, only_trusted: bool, max_bytes: int) -> None:
        self._store = store
        self._trusted = trusted
        self._trusted_texts = frozenset(trusted.values())
        self._only_trusted = only_trusted
        self._max_bytes = max_bytes
        self._local: DocumentCache[str] = DocumentCache()

    async def resolve(self, query: object, document_id: object, extensions: object) -> str | None:
        """Return the text to execute; None where the request names no document at all. Raises `DocumentRejected`."""
        sha256 = None if document_id is not None else persisted_query_hash(extensions)
        if sha256 is not None:
            return await self._by_hash(query, sha256)
        return self.sent_or_trusted(query, document_id)

    def sent_or_trusted(self, query: object, document_id: object) -> str | None:
        """The same for a request without extensions."""
        if document_id is not None:
            return self._by_id(query, document_id)
        if query is None:
            return None
        if not isinstance(query, str):
            raise DocumentRejected("BAD_REQUEST", "`query` must be a string: the document.")
        if self._only_trusted and query not in self._trusted_texts:
            raise _untrusted_error()
        return query

    async def register(self, sha256: str, text: str, owner: UUID) -> None:
        """Register a document under its hash. Only admitted ones come here, so that garbage evicts no other document."""
        size = len(_encode(text))
        if size > MAX_DOCUMENT_CHARACTERS or sha256 in self._trusted or self._only_trusted:
            return
        if self._store is not None:
            await self._store.put(sha256, text, size, owner)
        self._local.put(sha256, text, characters=size)

    def _by_id(self, query: object, document_id: object) -> str:
        if not isinstance(document_id, str):
            raise DocumentRejected("BAD_REQUEST", "`documentId` must be a string.")
        if query:
            raise DocumentRejected("BAD_REQUEST", "Send `query` or `documentId`, not both.")
        text = self._trusted.get(document_id) or self._trusted.get(document_id.removeprefix("sha256:"))
        if text is None:
            raise DocumentRejected(
                "DOCUMENT_NOT_FOUND", "No trusted document has this `documentId`. Deploy it to the server before the client."
            )
        return text

    async def _by_hash(self, query: object, sha256: str) -> str:
        trusted = self._trusted.get(sha256)
        if trusted is not None:
            if query and query != trusted:
                raise DocumentRejected("BAD_REQUEST", "`query` is not the trusted document of this hash. Send the hash alone.")
            return trusted
        if self._only_trusted:
            raise _untrusted_error()
        if query is None or query == "":
            text = self._local.get(sha256)
            if text is None and self._store is not None:
                text = await self._store.get(sha256)
            if text is None:
                # Apollo's clients compare the message with this.
                raise DocumentRejected("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
            self._local.put(sha256, text, characters=len(text))
            return text
        if not isinstance(query, str) or len(query) > self._max_bytes or len(_encode(query)) > self._max_bytes:
            raise DocumentRejected("BAD_REQUEST", f"`query` must be a document of at most {self._max_bytes:,} bytes.")
        if hashlib.sha256(_encode(query)).hexdigest() != sha256:
            raise DocumentRejected("BAD_REQUEST", "`extensions.persistedQuery.sha256Hash` is not the SHA-256 of `query`, in hex digits.")
        return query


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def persisted_query_hash(extensions: object) -> str | None:
    """Return the hash of Apollo's protocol; None where it is not used."""
    if not isinstance(extensions, dict):
        return None
    extension = cast("dict[str, Any]", extensions).get("persistedQuery")
    if extension is None:
        return None
    if not isinstance(extension, dict):
        raise DocumentRejected("BAD_REQUEST", "`extensions.persistedQuery` must be an object: {version: 1, sha256Hash}.")
    persisted_query = cast("dict[str, Any]", extension)
    version = persisted_query.get("version", 1)
    if type(version) is not int or version != 1:  # in Python true and 1.0 are equal to 1
        raise DocumentRejected("PERSISTED_QUERY_NOT_SUPPORTED", "PersistedQueryNotSupported")
    sha256 = persisted_query.get("sha256Hash")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise DocumentRejected("BAD_REQUEST", "`extensions.persistedQuery.sha256Hash` must be 64 hex digits.")
    return sha256.lower()


def _untrusted_error() -> DocumentRejected:
    return DocumentRejected(
        "DOCUMENT_REQUIRED", "This server runs only trusted documents. Send a `documentId` instead of a text or a hash."
    )


def trusted_documents(path: Path | None) -> dict[str, str]:
    """Read documents by id from `{"id": "document"}`, or from Apollo's manifest. Raises `ValueError` for any other file."""
    if path is None:
        return {}
    try:
        content: Any = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ValueError(f"TRELLIS_DOCUMENTS_FILE names {path}, which cannot be read as JSON: {error}") from error
    documents: dict[Any, Any] = {}
    if isinstance(content, dict):
        manifest = cast("dict[str, Any]", content)
        operations = manifest.get("operations")
        if isinstance(operations, list):
            entries = cast("list[Any]", operations)
            documents = {entry.get("id"): entry.get("body") for entry in entries if isinstance(entry, dict)}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
        else:
            documents = manifest
    if not documents or not all(isinstance(text, str) and text and isinstance(id_, str) for id_, text in documents.items()):
        raise ValueError(
            f'{path} holds no trusted documents. It must be {{"id": "document", …}} or Apollo\'s manifest: {{"operations": [{{"id", "body"}}, …]}}.'
        )
    return documents
