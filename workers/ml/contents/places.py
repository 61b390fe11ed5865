"""Where the items of a version lie in its downloaded files, and their bytes."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np

from workers.ml.items import limits
from workers.ml.items.archive import Member, UnreadableMember, member_blocks, read_member


class ItemFiles(TypedDict):
    """Paths of a version's files; `raw` and `pack` are None if no item lies in them.

    `places` has a JSON list a line for each readable item, in the order of the rows of the version's table where each item has a row:
    [key, info, offset, stored size, storage, size, whether it lies in the pack].
    """

    raw: str | None
    pack: str | None
    places: str


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """`info` describes the item as its ingest did, such as {"kind": "signal", "sample_rate": 100.0}."""

    key: str
    info: dict[str, Any]
    member: Member


class Items:
    """The items by their number, from 0, which is that of their row where each has one. Memory grows by a number for each."""

    def __init__(self, files: ItemFiles) -> None:
        self.raw = None if files["raw"] is None else Path(files["raw"])
        # They stay open as long as the process lives, which works on one version.
        self._places = Path(files["places"]).open("rb")  # noqa: SIM115 - see above
        paths = (files["raw"], files["pack"])
        self._files: list[IO[bytes] | None] = [None if path is None else Path(path).open("rb") for path in paths]  # noqa: SIM115 - see above
        lengths = np.fromiter((len(line) for line in self._places), dtype=np.int64)
        self._lines = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._lines) - 1

    def place(self, row: int) -> ItemPlace:
        self._places.seek(int(self._lines[row]))
        return _place(self._places.readline())

    def all(self) -> Iterator[ItemPlace]:
        self._places.seek(0)
        yield from map(_place, self._places)

    def read(self, place: ItemPlace) -> bytes:
        """The unpacked bytes. The ingest read them already and the files were compared with their checksums: an error is one of ours."""
        try:
            return read_member(self._file(place), place.member)
        except UnreadableMember as error:
            raise RuntimeError(f"The item {place.key!r} {error}.") from error

    def open(self, place: ItemPlace) -> IO[bytes]:
        """The unpacked bytes as a file; one in the folder of the body if they are many."""
        if max(place.member.size, place.member.stored_size) <= limits.MAX_ITEM_BYTES:
            return io.BytesIO(self.read(place))
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
        try:
            copy.writelines(member_blocks(self._file(place), place.member))
        except UnreadableMember as error:
            raise RuntimeError(f"The item {place.key!r} {error}.") from error
        return copy

    def _file(self, place: ItemPlace) -> IO[bytes]:
        file = self._files[place.member.in_pack]
        if file is None:
            raise RuntimeError(f"The file of the item {place.key!r} was not downloaded.")
        return file


def _place(line: bytes) -> ItemPlace:
    key, info, offset, stored_size, storage, size, in_pack = json.loads(line)
    return ItemPlace(key, info, Member(key, size, offset, stored_size, storage, in_pack=in_pack))
