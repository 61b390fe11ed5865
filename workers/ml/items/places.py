"""What is known of an item before it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

import orjson

from workers.ml.items import limits
from workers.ml.items.annotations import Annotations
from workers.ml.items.archive import Member, UnreadableMember, member_blocks, read_member
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.split_names import SPLITS

_LABEL_FIELDS: Final = ("label", "class", "category", "target", "y", "class_name", "class_label")
_SPLIT_FIELDS: Final = ("split", "subset", "partition", "fold")
_SEVERITY_FIELDS: Final = ("severity", "severity_level", "level")
_GROUP_FIELDS: Final = ("group", "group_id", "recording", "recording_id", "subject", "subject_id", "patient", "patient_id")
FILED_FIELDS: Final = frozenset((*_LABEL_FIELDS, *_SPLIT_FIELDS, *_SEVERITY_FIELDS, *_GROUP_FIELDS))
"""Names of columns by which items are filed, in lower case."""


@dataclass(slots=True)
class Place:
    """`texts` are cells of the table. The metadata of `annotations` are added to those of the item once its size is known.

    Items that nothing tells apart may share one.
    """

    label: str | None = None
    split: str | None = None
    severity: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    texts: dict[str, str | None] = field(default_factory=dict[str, str | None])
    annotations: Annotations | None = None

    def fill(self, row: Mapping[str, Any], column: str = "") -> None:
        """Take label, split, severity and metadata over from what a manifest says; `column` is where it names the file."""
        fields = {name.strip().lower(): name for name in row}

        def take(names: Sequence[str]) -> str | None:
            for name in names:
                if name in fields and isinstance(value := row[fields[name]], str | int | float | bool):
                    del fields[name]
                    return str(value)[: limits.MAX_LABEL_LENGTH]
            return None

        fields.pop(column.strip().lower(), None)
        self.label = take(_LABEL_FIELDS) or self.label
        split = take(_SPLIT_FIELDS)
        if split is not None:
            self.split = SPLITS.get(split.strip().lower(), split)
        self.severity = take(_SEVERITY_FIELDS) or self.severity
        for name in list(fields.values())[: limits.MAX_METADATA_FIELDS]:
            value = row[name]
            if isinstance(value, str):
                value = value[: limits.MAX_METADATA_LENGTH]
            elif isinstance(value, dict | list) and len(orjson.dumps(value)) > limits.MAX_METADATA_LENGTH:
                continue
            self.metadata[name[:200]] = value


def group_of(metadata: Mapping[str, Any]) -> str | None:
    """What the item is a part of, such as a recording or a patient: parts of one are alike, so they belong into one split."""
    fields = {name.strip().lower(): value for name, value in metadata.items()}
    for name in _GROUP_FIELDS:
        if isinstance(value := fields.get(name), str | int) and not isinstance(value, bool):
            return str(value)[: limits.MAX_LABEL_LENGTH]
    return None


@dataclass(slots=True)
class Layout:
    """`items` are the data files in the order of the archive."""

    name: str
    items: list[tuple[Member, Place]]


@dataclass(frozen=True, slots=True)
class ArchiveContent:
    """The members that a layout is recognised by; items are those with one of the `suffixes`, and called `noun` in messages, such as "images"."""

    filename: str
    members: Sequence[Member]
    suffixes: frozenset[str]
    noun: str
    file: IO[bytes]
    issues: IssueLog

    def read(self, member: Member) -> bytes:
        """Raises `UnreadableMember`."""
        return read_member(self.file, member)

    def read_small(self, member: Member) -> str:
        """The text of a file beside an item. Raises `UnreadableMember`, UnicodeDecodeError."""
        if member.size > limits.MAX_SIDECAR_BYTES:
            raise UnreadableMember(f"has {member.size:,} bytes; the maximum is {limits.MAX_SIDECAR_BYTES:,}")
        return self.read(member).decode("utf-8-sig")

    def blocks(self, member: Member) -> Iterator[bytes]:
        """The same, block by block."""
        return member_blocks(self.file, member)

    def report_skipped(self, skipped: Sequence[Member], noun: str = "") -> None:
        if skipped:
            self.issues.add(
                "SKIPPED_FILES",
                f"{len(skipped):,} files of the archive are not read as {noun or self.noun}, first {short_repr(skipped[0].path)}: their extensions are of"
                " other kinds.",
            )

    def report_missing(self, table: str, missing: Sequence[Any]) -> None:
        if missing:
            self.issues.add(
                "MISSING_FILES",
                f"{short_repr(table)} names {len(missing):,} files that the archive does not have, first {short_repr(missing[0])}.",
            )

    def report_unnamed(self, table: str, unnamed: Sequence[str]) -> None:
        if unnamed:
            self.issues.add(
                "UNNAMED_FILES",
                f"{len(unnamed):,} files are in no row of {short_repr(table)}, first {short_repr(unnamed[0])}; they have no label.",
            )
