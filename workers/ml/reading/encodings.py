"""Encoding detection, and transcoding to UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from charset_normalizer import from_bytes

from workers.ml import limits
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.languages import encoding_by_language
from workers.ml.reading.reader_state import ReaderState, decode_bytes, encode_bytes

_BOMS: list[tuple[bytes, str]] = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
# Encodings in common use. The detector is restricted to them, because rarer ones cause false matches.
_LATIN_CODECS = ["cp1252", "cp1250", "iso8859_2"]
_OTHER_CODECS = [
    "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "iso8859_5", "iso8859_7", "cp866",
    "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
REPLACEMENT = b"\xef\xbf\xbd"
"""U+FFFD in UTF-8."""

_NON_ASCII_RUN = re.compile(rb"[\x80-\xff]+")
_LATIN_RUN = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f]{1,3}(?![^\x00-\x7f])|(?<![^\x00-\x7f])[^\x00-\x7f]{1,3}(?=[A-Za-z])")
_SYMBOL_IN_WORD = re.compile(r"(?<=[^\W\d_])[¡-©«¬®-´¶¸¹»-¿](?=[^\W\d_])")
_WORD_END = re.compile(r"[\s,;|:\"'()\[\]/_.-]+")
_COMMON_LEADS = frozenset(range(0x81, 0xA0))
"""First bytes of kana and of the common kanji in Shift-JIS."""
_BLANK_LINE = re.compile(rb"(?:\s|\xe2\x80\x8b|\xe2\x81\xa0|\xef\xbb\xbf)*")
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True)
class Encoding:
    """A codec, and the length of the byte order mark before the text in bytes."""

    name: str
    bom_length: int = 0
    is_ascii_so_far: bool = False
    is_given: bool = False
    """The user chose it."""
    """The sample is pure ASCII: assumed to be UTF-8 and detected again at the first other byte."""

    def decode(self, sample: bytes) -> str:
        return codecs.getincrementaldecoder(self.name)("replace").decode(sample[self.bom_length :], final=False)


def given_encoding(name: str, sample: bytes) -> Encoding:
    """The encoding that the user chose; a byte order mark of the same encoding is skipped."""
    codec = codecs.lookup(name).name
    for bom, bom_name in _BOMS:
        if sample.startswith(bom) and (codec == bom_name or bom_name.startswith(codec)):
            return Encoding(bom_name, len(bom), is_given=True)
    return Encoding({"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(codec, codec), is_given=True)


def detect_encoding(sample: bytes, *, is_whole: bool) -> Encoding | None:
    """Return the encoding of text that begins with `sample`, or None if it is not text."""
    for bom, name in _BOMS:
        if sample.startswith(bom):
            return Encoding(name, len(bom))
    zeros = sample.count(0)
    if zeros > len(sample) // 5:
        even, odd = sample[0::2].count(0), sample[1::2].count(0)
        if odd > 8 * even:
            return Encoding("utf-16-le")
        if even > 8 * odd:
            return Encoding("utf-16-be")
        return None
    if zeros > len(sample) // 50 + 4 or len(_CONTROL.findall(sample)) > len(sample) // 20:
        return None
    if sample.isascii():
        return Encoding("utf-8", is_ascii_so_far=True)
    return Encoding(_detect_eight_bit(sample, is_whole=is_whole))


def _detect_eight_bit(sample: bytes, *, is_whole: bool) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(sample, final=is_whole)
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"
    text = sample.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    good = sum(1 for character in text if character > "\x7f") - damaged
    if good >= 2 * damaged:
        return "utf-8"  # with damaged bytes, which the reader reports: text of another encoding is rarely valid UTF-8 by chance
    if (name := encoding_by_language(sample, is_whole=is_whole)) is not None:
        return name
    if _is_shift_jis(sample, is_whole=is_whole):
        return "cp932"
    # Latin text has single accented letters among ASCII ones; other alphabets have whole words above 0x7f.
    runs = [len(run) for run in _NON_ASCII_RUN.findall(sample)]
    western = sample.decode("cp1252", "replace")
    if 10 * len(_SYMBOL_IN_WORD.findall(western)) > sum(runs) and sum(runs) < 2.5 * len(runs):
        return _most_likely(sample, _LATIN_CODECS[1:])  # ³ inside of a word is the Polish ł
    # Letters beyond ASCII beside ASCII ones, as in Grüße and ação.
    in_words = sum(map(str.isalpha, _LATIN_RUN.findall(western)))
    return _most_likely(sample, _LATIN_CODECS if sum(runs) < 2 * len(runs) or 10 * in_words >= 9 * len(runs) else _OTHER_CODECS)


def _is_shift_jis(sample: bytes, *, is_whole: bool) -> bool:
    """Whether all words beyond ASCII are Japanese in Shift-JIS, whose kana and common kanji begin with bytes that no letters of Latin or
    Cyrillic encodings have. A short header is enough for that, where statistics fail."""
    try:
        text = codecs.getincrementaldecoder("cp932")("strict").decode(sample, final=is_whole)
    except UnicodeDecodeError:
        return False
    characters = "".join(word for word in _WORD_END.split(text) if not word.isascii())
    common = sum(character.encode("cp932", "replace")[0] in _COMMON_LEADS for character in characters)
    return common > 1 and common > 0.6 * len(characters)  # one alone may be a bullet or a dash before a letter


def _most_likely(sample: bytes, candidates: list[str]) -> str:
    """Return the candidate whose decoded text looks most like a language; the first one unless another is clearly better."""
    matches = {match.encoding: match for match in from_bytes(sample[:65_536], cp_isolation=candidates)}
    if not matches:
        return candidates[0]
    min_chaos = min(match.chaos for match in matches.values())
    least_chaotic = [name for name in candidates if name in matches and matches[name].chaos <= min_chaos + 0.05]
    best = max(least_chaotic, key=lambda name: matches[name].coherence)
    return best if matches[best].coherence >= matches[least_chaotic[0]].coherence + 0.1 else least_chaotic[0]


class Transcoder:
    """Converts blocks of any encoding to blocks of UTF-8; block boundaries are arbitrary. UTF-8 input passes unchecked: callers apply
    `sanitize_utf8` to whole lines.

    `name` may change once, when the first non-ASCII byte appears in text that was ASCII so far.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.name = encoding.name
        self.position = 0
        """Offset in the file up to which text was yielded."""
        self._is_ascii = encoding.is_ascii_so_far
        self._decoder_state: tuple[bytes, int] | None = None

    def add_issue(self, log: IssueLog) -> None:
        """Call at the end of the file: list an encoding that was guessed."""
        if not self.encoding.is_given and not self.encoding.bom_length and self.name != "utf-8":
            log.add(
                "ENCODING_GUESSED",
                f"The file does not say its encoding; by its letters it was read as {self.name}. "
                "If texts look wrong, give the encoding when you upload the file.",
            )

    def state(self) -> ReaderState:
        """The state after the last yielded block."""
        decoder = None if self._decoder_state is None else [encode_bytes(self._decoder_state[0]), self._decoder_state[1]]
        return {"position": self.position, "name": self.name, "is_ascii": self._is_ascii, "decoder": decoder}

    def restore(self, state: ReaderState) -> None:
        """Continue at the state's position; `blocks` must then get the bytes from there on."""
        self.position, self.name, self._is_ascii = state["position"], state["name"], state["is_ascii"]
        if state["decoder"] is not None:
            self._decoder_state = decode_bytes(state["decoder"][0]), state["decoder"][1]

    def blocks(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        if self._decoder_state is not None:
            if (first := next(raw, None)) is not None:
                yield from self._decode(first, raw)
            return
        skip = self.encoding.bom_length if self.position == 0 else 0
        for block in raw:
            text = block[skip:] if skip else block
            self.position += skip
            skip = 0
            if self._is_ascii and not text.isascii():
                self._is_ascii = False
                self.name = _detect_eight_bit(_around_first_non_ascii(text), is_whole=False)
            if self.name != "utf-8":
                yield from self._decode(text, raw)
                return
            self.position += len(text)
            yield text

    def _decode(self, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.name)("strict")
        if self._decoder_state is not None:
            decoder.setstate(self._decoder_state)
        block: bytes | None = first
        while block is not None:
            following = next(rest, None)
            state = decoder.getstate()
            try:
                text = decoder.decode(block, final=following is None)
            except UnicodeDecodeError:
                # Decode the block again with U+FFFD in damaged places, which the line check then reports.
                lenient = codecs.getincrementaldecoder(self.name)("replace")
                lenient.setstate(state)
                text = lenient.decode(block, final=following is None)
                decoder.setstate(lenient.getstate())
            self.position += len(block)
            self._decoder_state = decoder.getstate()
            yield text.encode("utf-8", "replace")
            block = following


def _around_first_non_ascii(block: bytes) -> bytes:
    match = _NON_ASCII_RUN.search(block)
    start = max(0, (match.start() if match else 0) - 1_000)
    return block[start : start + limits.SAMPLE_BYTES]


def shows_nothing(line: bytes) -> bool:
    """Whether a line of UTF-8 shows nothing: it has spaces and invisible characters (U+200B, U+2060, U+FEFF) alone."""
    return _BLANK_LINE.fullmatch(line) is not None


def sanitize_utf8(body: bytes) -> tuple[bytes, str | None]:
    """Return `body` as valid UTF-8 without NUL, and the issue code: "NUL_BYTE", "UNDECODABLE_BYTES" or None. Damaged places become U+FFFD."""
    issue_code = None
    if not body.isascii():
        if not _is_utf8(body):
            body = body.decode("utf-8", "replace").encode("utf-8")
            issue_code = "UNDECODABLE_BYTES"
        elif REPLACEMENT[:1] in body and REPLACEMENT in body:  # searching for a single byte is many times as fast
            issue_code = "UNDECODABLE_BYTES"
    if b"\0" in body:
        body = body.replace(b"\0", REPLACEMENT)
        issue_code = issue_code or "NUL_BYTE"
    return body, issue_code


def _is_utf8(body: bytes) -> bool:
    """Validate with Arrow: several GB/s, against a third of one for bytes.decode, which builds a string."""
    offsets = pa.py_buffer(np.array([0, len(body)], dtype=np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(body)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
