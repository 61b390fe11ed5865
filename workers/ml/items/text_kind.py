"""Text documents as a kind of items."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cache
from itertools import count, islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.reading import Corrupt, Described, Part
from workers.ml.reading.encodings import Encoding, detect_encoding, given_encoding
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

TABLES: Final = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls"})
"""Extensions of files that are a table of texts, and have no items."""
_CONTENT_TYPES: Final = {".txt": "text/plain", ".text": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown"}
_SAMPLE_BYTES: Final = 65_536
_BLOCK_BYTES: Final = 1 << 20
_LANGUAGE_CHARACTERS: Final = 3_000
_MIN_LETTERS: Final = 20
_BATCH: Final = 10_000
_MIN_CONFIDENCE: Final = 0.5
_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# Possessive, and only from the start of a run of marks: otherwise a long run would take time by the square of its length.
_SENTENCE_END: Final = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s|\Z)|[。！？]++")
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")


class TextKind:
    """Plain text and Markdown, in any common encoding, or in the one that is given. Of a single file each line may be a text."""

    name = "texts"
    suffixes = frozenset(_CONTENT_TYPES)

    def __init__(self, encoding: str | None = None, *, has_lines: bool = False) -> None:
        self._encoding = encoding
        self._has_lines = has_lines

    def describe(self, content: bytes, path: str) -> Described:
        if len(content) > limits.MAX_TEXT_BYTES:
            raise Corrupt(f"has {len(content):,} bytes; a text may have {limits.MAX_TEXT_BYTES:,}")
        issues: list[tuple[str, str]] = []
        # Lines have names without an extension, and were brought to UTF-8.
        text = _decode(content, self._encoding if PurePosixPath(path).suffix else "utf-8", issues)
        language = language_of(text)
        features = features_of(text)
        if len(text) > limits.MAX_TEXT_CELL:
            issues.append(
                ("TEXT_CUT", f"The column `text` of the table has its first {limits.MAX_TEXT_CELL:,} of {len(text):,} characters.")
            )
        info = {"kind": "text", "characters": features["characters"], "words": features["words"], "language": language}
        texts = {"language": language, "text": text[: limits.MAX_TEXT_CELL]}
        content_type = _CONTENT_TYPES.get(PurePosixPath(path).suffix.lower(), "text/plain")
        return Described(info, features, content_type, issues, texts=texts)

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:
        """A single text is the one item, or each of its lines is one."""
        if PurePosixPath(filename).suffix.lower() not in _CONTENT_TYPES:
            return None
        return "TEXT", self._lines(raw, filename, issues) if self._has_lines else iter([Part(filename)])

    def _lines(self, raw: RawFile, filename: str, issues: IssueLog) -> Iterator[Part]:
        """Those that are not blank, by their number in the file. Raises BadInput (BINARY_FILE, EMPTY_FILE, ROW_TOO_LONG)."""
        with raw.path.open("rb") as source:
            encoding = given_encoding(self._encoding, raw.head(_SAMPLE_BYTES)) if self._encoding else _encoding_of(source, raw.size)
            if encoding is None:
                raise BadInput("BINARY_FILE", f"{filename!r} is no text: it has binary data.")
            if (guess := _guess_of(encoding)) is not None:
                issues.add(*guess)
            source.seek(encoding.bom_length)
            with io.TextIOWrapper(source, encoding.name, errors="replace") as file:
                is_blank = True
                for number in count(1):
                    line = file.readline(limits.MAX_TEXT_BYTES)
                    if not line:
                        break
                    if len(line) == limits.MAX_TEXT_BYTES:
                        raise BadInput(
                            "ROW_TOO_LONG", f"Line {number:,} of {filename!r} has more than {limits.MAX_TEXT_BYTES:,} characters."
                        )
                    if line.strip():
                        is_blank = False
                        yield Part(f"line/{number:07}", line.rstrip("\n").encode())
                if is_blank:
                    raise BadInput("EMPTY_FILE", f"{filename!r} contains only blank lines.")

    def summary(self) -> dict[str, Any]:
        return {}


def _decode(content: bytes, given: str | None, issues: list[tuple[str, str]]) -> str:
    """The text with line feeds alone at the ends of lines. Raises `Corrupt`."""
    encoding = _encoding_of(io.BytesIO(content), len(content)) if given is None else given_encoding(given, content[:_SAMPLE_BYTES])
    if encoding is None:
        raise Corrupt("is no text: it has binary data")
    text = content[encoding.bom_length :].decode(encoding.name, "replace").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if not text.strip():
        raise Corrupt("has nothing but blanks")
    if (guess := _guess_of(encoding)) is not None:
        issues.append(guess)
    if damaged := text.count("\ufffd"):
        issues.append(("DAMAGED_TEXT", f"{damaged:,} characters cannot be read in {encoding.name} and are shown as U+FFFD."))
    return text


def _encoding_of(source: BinaryIO, size: int) -> Encoding | None:
    """The encoding of a text that is read from its start; None if it is binary. Where it begins in ASCII, the first other byte decides."""
    sample = source.read(_SAMPLE_BYTES)
    encoding = detect_encoding(sample, is_whole=len(sample) == size)
    if encoding is not None and encoding.is_ascii_so_far:
        while block := source.read(_BLOCK_BYTES):
            if (found := _BEYOND_ASCII.search(block)) is not None:
                source.seek(found.start() - len(block), io.SEEK_CUR)
                return detect_encoding(source.read(_SAMPLE_BYTES), is_whole=False)
    return encoding


def _guess_of(encoding: Encoding) -> tuple[str, str] | None:
    """The issue of an encoding that neither the file nor its user says."""
    if encoding.is_given or encoding.bom_length or encoding.name == "utf-8":
        return None
    return "ENCODING_GUESSED", f"It does not say its encoding; by its letters it was read as {encoding.name}."


def features_of(text: str) -> dict[str, float | int | None]:
    """Counts and means; words are runs of letters and digits, so of a language without blanks a clause is one. `distinct_words` ignores case."""
    words = letters = 0
    distinct: set[str] = set()
    found = map(re.Match.group, _WORD.finditer(text))
    while batch := list(islice(found, _BATCH)):  # not one by one, which takes twice as long, nor all of 16 MiB
        words += len(batch)
        letters += sum(map(len, batch))
        distinct.update(map(str.casefold, batch))
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    # What follows the last mark is a sentence too, if it has words.
    sentences = len(ends) + (_WORD.search(text, ends[-1] if ends else 0) is not None)
    return {
        "characters": len(text),
        "words": words,
        "sentences": sentences,
        "lines": sum(1 for line in text.split("\n") if line.strip()),
        "mean_word_length": letters / words if words else None,
        "words_per_sentence": words / sentences if sentences else None,
        "distinct_words": len(distinct),
        "distinct_share": len(distinct) / words if words else None,
        "upper_case_share": sum(map(str.isupper, text)) / len(text),
        "digit_share": sum(map(str.isdigit, text)) / len(text),
    }


def language_of(text: str) -> str | None:
    """The ISO 639 code of the language of the beginning; None for a text that is too short, or of which it is not clear."""
    sample = text[:_LANGUAGE_CHARACTERS]
    if sum(map(str.isalpha, sample)) < _MIN_LETTERS:
        return None
    language, confidence = _identifier().classify(sample)
    return language if confidence >= _MIN_CONFIDENCE else None


@cache
def _identifier() -> Any:
    """M. Lui and T. Baldwin, "langid.py: An off-the-shelf language identification tool" (2012), with the model that the package brings."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
