"""Which media type an answer has (RFC 9110, 12.5.1, and the GraphQL over HTTP draft), and which a body may have."""

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
        """3 where it names the type, 2 for `text/*`, 1 for `*/*`, 0 where it does not fit."""
        kind, _, subtype = media_type.partition("/")
        if self.charset not in {None, "utf-8", "utf8", "*"}:
            return 0
        if self.kind == "*":
            return 1
        if self.kind != kind:
            return 0
        return 2 if self.subtype == "*" else 3 * (self.subtype == subtype)


class Accept:
    """What a client takes. Without the header it takes anything; so it does with one in which nothing can be understood."""

    def __init__(self, header: str | None) -> None:
        self._ranges = _parse_ranges(header or "") or [MediaRange("*", "*", 1.0, None)]

    def preference(self, media_type: str) -> tuple[float, int]:
        """Quality and precision of the most precise entry that fits; (0, 0) where the type is not taken."""
        specificity, quality = max(((entry.specificity(media_type), entry.quality) for entry in self._ranges), default=(0, 0.0))
        return (quality, specificity) if specificity and quality else (0.0, 0)

    @property
    def json(self) -> str | None:
        """The better liked of the two JSON types. Of equals the newer one, if it is named; a wildcard alone stands for older clients."""
        response, plain = self.preference(GRAPHQL_RESPONSE), self.preference(JSON)
        if response == plain == (0.0, 0):
            return None
        if response == plain:
            return GRAPHQL_RESPONSE if response[1] == 3 else JSON
        return GRAPHQL_RESPONSE if response > plain else JSON

    @property
    def stream(self) -> bool:
        """Whether events are taken. `*/*` does not say so: who sends it expects one answer."""
        return self.preference(EVENT_STREAM)[1] > 1

    @property
    def html(self) -> bool:
        """Whether a page is liked better than JSON, or as well and by its name."""
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
    """Bodies are JSON in UTF-8, plain. That is also what keeps pages of other origins out: for this type a browser asks us first.

    Raises `Refused` with 415.
    """
    types = headers.getlist("content-type")
    if len(types) != 1:
        raise _unsupported("Say what the body is, once: `Content-Type: application/json`.")
    name, *parameters = (piece.strip().lower() for piece in types[0].split(";"))
    if name == "multipart/form-data":
        raise _unsupported(
            "Files do not travel through GraphQL here. Ask for an address with `requestUpload`, send the file there with PUT, then call"
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
