"""Content negotiation of responses (RFC 9110, 12.5.1, and the GraphQL over HTTP draft), and the check of a body's media type."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from server.protocol.http_errors import HttpError

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
HTML = "text/html"

_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MAX_RANGES = 64


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One entry of an Accept header."""

    kind: str
    subtype: str
    quality: float
    charset: str | None

    def specificity(self, media_type: str) -> int:
        """3 for the type itself, 2 for `text/*`, 1 for `*/*`, 0 for no match."""
        kind, _, subtype = media_type.partition("/")
        if self.charset not in {None, "utf-8", "utf8", "*"}:
            return 0
        if self.kind == "*":
            return 1
        if self.kind != kind:
            return 0
        return 2 if self.subtype == "*" else 3 * (self.subtype == subtype)


class Accept:
    """What a client accepts: anything without the header, or with one that has no valid entry."""

    def __init__(self, header: str | None) -> None:
        self._ranges = _parse_ranges(header or "") or [MediaRange("*", "*", 1.0, None)]

    def preference(self, media_type: str) -> tuple[float, int]:
        """Quality and specificity of the most specific matching entry; (0, 0) if the type is not accepted."""
        specificity, quality = max(((entry.specificity(media_type), entry.quality) for entry in self._ranges), default=(0, 0.0))
        return (quality, specificity) if specificity and quality else (0.0, 0)

    @property
    def json(self) -> str | None:
        """The preferred of the two JSON types. On a tie the newer one if it is named; wildcards alone mean an older client."""
        response, plain = self.preference(GRAPHQL_RESPONSE), self.preference(JSON)
        if response == plain == (0.0, 0):
            return None
        if response == plain:
            return GRAPHQL_RESPONSE if response[1] == 3 else JSON
        return GRAPHQL_RESPONSE if response > plain else JSON

    @property
    def stream(self) -> bool:
        """Whether event streams are accepted. `*/*` does not count: its sender expects a single response."""
        return self.preference(EVENT_STREAM)[1] > 1

    @property
    def html(self) -> bool:
        """Whether HTML is named and preferred at least as much as JSON."""
        page, json = self.preference(HTML), max(self.preference(GRAPHQL_RESPONSE), self.preference(JSON))
        return page[1] == 3 and page >= json


def _parse_ranges(header: str) -> list[MediaRange]:
    ranges: list[MediaRange] = []
    for part in header.split(",")[:_MAX_RANGES]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        kind, _, subtype = name.partition("/")
        if not kind or not subtype or (kind == "*" and subtype != "*"):
            continue
        quality, charset = 1.0, None
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "q":
                quality = float(value) if _QUALITY.fullmatch(value) else 0.0
            elif key == "charset":
                charset = value.strip('"')
        ranges.append(MediaRange(kind, subtype, quality, charset))
    return ranges


def check_body_type(headers: Headers) -> None:
    """Require uncompressed JSON in UTF-8. This also prevents CSRF: a browser sends this type cross-origin only after a preflight.

    Raises `HttpError` 415.
    """
    types = headers.getlist("content-type")
    if len(types) != 1:
        raise _unsupported("Say what the body is, once: `Content-Type: application/json`.")
    name, *parameters = (piece.strip().lower() for piece in types[0].split(";"))
    if name == "multipart/form-data":
        raise _unsupported(
            "Files are not sent through GraphQL here. Call `requestUpload`, PUT the file to the URL that it returns, then call"
            " `completeUpload`."
        )
    if name != JSON:
        raise _unsupported('The body must be `application/json`: {"query": "…", "variables": {…}}.')
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            raise _unsupported("The body must be in UTF-8. Leave the charset out or say `charset=utf-8`.")
    encodings = [name.strip().lower() for value in headers.getlist("content-encoding") for name in value.split(",")]
    if any(name not in {"", "identity"} for name in encodings):
        raise HttpError(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "The body must not be compressed. Send it without Content-Encoding.",
            {"Accept-Encoding": "identity"},
        )


def _unsupported(message: str) -> HttpError:
    return HttpError(415, "UNSUPPORTED_MEDIA_TYPE", message, {"Accept-Post": JSON})
