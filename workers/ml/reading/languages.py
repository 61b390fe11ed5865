"""Which encoding makes words of some language out of bytes beyond ASCII.

Files of few rows have too few letters for statistics of pairs: the cost of a text is the information of its letters, by their frequency in the
language, and of what does not occur in words. The encoding with the least cost for one of its languages is chosen.
"""

from __future__ import annotations

import codecs
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

# Letters beyond ASCII, the most frequent ones first. Languages of the same encoding are tried apart: a table is rarely in several.
_LATIN: Final = (
    ("cp1252", "üäöß"), ("cp1252", "éèàêâçîùôœûïëæÿü"), ("cp1252", "óíáéñúü"), ("cp1252", "ãçáéíóêõâúàôü"), ("cp1252", "àèùòéìóíî"),
    ("cp1252", "åäöøæéü"), ("cp1252", "ëéïöüèáó"), ("cp1252", "éáíóöüäñçèåøàêãúôâëîœæßïõûùòìÿ"),
    ("cp1254", "ışüğöçİâîû"), ("cp1252", "áíðéóúýþöæ"),
    *((codec, letters) for codec in ("cp1250", "iso8859_2") for letters in (
        "łżąęóśćńź", "íáéěřýžčšůúňťďó", "áíéčýžšúľťôňóďäŕĺ", "áéöőóíüúű", "ăşîâţ", "čšžćđ",
    )),
    ("cp1257", "ėšųžįąčūę"), ("cp1257", "āīēšņūļžčģķ"),
)  # fmt: skip
_RUSSIAN: Final = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"
_UKRAINIAN: Final = "оанивіетрслкудмпзяьбгчйхцїжюєфшщґ"
_SERBIAN: Final = "аиоенрстувкдјпмлзбгчшцњљжћхђфџ"
_GREEK: Final = "αοιετσνηυρπκμλςωίάόγέδήύθχφώβξζψϊϋΐΰ"
_OTHERS: Final = (
    ("cp1251", _RUSSIAN), ("koi8_r", _RUSSIAN), ("cp866", _RUSSIAN), ("iso8859_5", _RUSSIAN),
    ("cp1251", _UKRAINIAN), ("cp1251", _SERBIAN), ("iso8859_5", _SERBIAN),
    ("cp1253", _GREEK), ("iso8859_7", _GREEK),
    ("cp1255", "יוהלארבתשמםנדעכחקפגןטסזצךףץ"),
    ("cp1256", "اليمونرتبةعدسفهكقأحجشطصىخإذغئضزءثظؤآچپگکی"),
)  # fmt: skip
_FINAL_FORMS: Final = frozenset("ךםןףץ")
_VOWELS: Final = frozenset("аеёиоуыэюяіїєαεηιουωάέήίόύώϊϋΐΰ")
_PRIORS: Final = {"cp1254": 1.0, "cp1250": 1.0, "iso8859_2": 1.5, "cp1257": 2.0}
"""Costs of the encodings that share most of their letters with cp1252."""
_MULTIBYTE: Final = ("cp932", "euc_jp", "gb18030", "big5", "cp949")

_WORD: Final = re.compile(r"[^\W\d_]+")
_SYMBOL: Final = re.compile(r"[^\x00-\x7f]")
_MAX_TEXT: Final = 4_000
_MAX_MEAN_COST: Final = 4.0
"""Above it the text is of none of the languages. That of their texts is 2 to 3.5, by byte."""
_MAX_CHARACTER_COST: Final = 8.5
"""The same of a character of several bytes."""
_COMMON_SYMBOLS: Final = frozenset("«»“”„‘’–—…°€™²³µ·№ªº\xa0•£")
_FOREIGN: Final = 7.0
"""Cost of a letter that the language does not have, and of one in a word with letters of another script."""
_SYMBOL_COST, _RARE_SYMBOL_COST, _SYMBOL_IN_WORD_COST, _CASE_COST, _ODD_WORD_COST = 3.0, 6.0, 9.0, 4.0, 3.0


def encoding_by_language(sample: bytes, *, is_whole: bool) -> str | None:
    """Return the encoding, or None if none makes words of a language that is known here. `sample` is no UTF-8."""
    lines = b"\n".join(_lines_beyond_ascii(sample))
    sample = lines[:_MAX_TEXT]
    is_whole = is_whole and len(lines) <= _MAX_TEXT
    high = sum(byte > 0x7F for byte in sample)
    best: tuple[float, str] | None = None
    texts: dict[str, str | None] = {}
    for codec, cost_of in _candidates():
        if codec not in texts:
            texts[codec] = _decode(sample, codec, is_whole=is_whole)
        text = texts[codec]
        if text is None:
            continue
        cost = cost_of(text) + _PRIORS.get(codec, 0.0)
        if best is None or cost < best[0] - 1e-9:
            best = cost, codec
    if best is None:
        return None
    text = texts[best[1]] or ""
    if best[0] > (_MAX_CHARACTER_COST * sum(map(_is_high, text)) if best[1] in _MULTIBYTE else _MAX_MEAN_COST * high):
        return None
    return "cp1252" if texts[best[1]] == texts.get("cp1252") else best[1]


def _lines_beyond_ascii(sample: bytes) -> Iterator[bytes]:
    size = 0
    for line in sample.split(b"\n"):
        if not line.isascii():
            yield line
            size += len(line) + 1
        if size >= _MAX_TEXT:
            return


def _candidates() -> Iterable[tuple[str, Callable[[str], float]]]:
    for codec, letters in _LATIN:
        yield codec, lambda text, letters=letters: _cost_of_letters(text, letters, is_latin=True)
    for codec, letters in _OTHERS:
        yield codec, lambda text, letters=letters: _cost_of_letters(text, letters, is_latin=False)
    for codec in _MULTIBYTE:
        yield codec, lambda text, codec=codec: _cost_of_characters(text, codec)


def _decode(sample: bytes, codec: str, *, is_whole: bool) -> str | None:
    """None if a byte has no meaning; the last character of what is not whole may be cut."""
    try:
        text = codecs.getincrementaldecoder(codec)("strict").decode(sample, final=is_whole)
    except UnicodeDecodeError:
        return None
    return None if any("\x80" <= character <= "\x9f" for character in text) else text


def _cost_of_letters(text: str, letters: str, *, is_latin: bool) -> float:
    total = sum(1 / (rank + 2) for rank in range(len(letters)))
    costs = {letter: math.log(total * (rank + 2)) for rank, letter in enumerate(letters)}
    cost = 0.0
    for word, count in Counter(_WORD.findall(text)).items():
        if not word.isascii():
            cost += count * _cost_of_word(word, costs, is_latin=is_latin)
    return cost + _cost_of_symbols(text)


def _cost_of_word(word: str, costs: dict[str, float], *, is_latin: bool) -> float:
    foreign = sum(map(str.isascii, word))
    # Latin words have letters of ASCII beside others, and words of other scripts have none.
    has_other_script = foreign == 0 and len(word) > 1 if is_latin else foreign > 0
    cost = 0.0
    if len(word) == 1 or (not _VOWELS.isdisjoint(costs) and _VOWELS.isdisjoint(word.lower()) and not is_latin):
        cost += _ODD_WORD_COST
    for index, letter in enumerate(word):
        if index and letter.isupper() and word[index - 1].islower():
            cost += _CASE_COST
        if letter.isalpha() and not letter.isascii():
            if letter in _FINAL_FORMS and index < len(word) - 1:
                cost += _FOREIGN
            # Of several letters that are one in upper case only the first is written differently.
            lower = letter if letter in costs else letter.lower()
            cost += _FOREIGN if has_other_script else costs.get(lower, _FOREIGN)
    return cost


def _cost_of_symbols(text: str) -> float:
    cost = 0.0
    for match in _SYMBOL.finditer(text):
        symbol, place = match.group(), match.start()
        if not symbol.isalpha():
            in_word = 0 < place < len(text) - 1 and text[place - 1].isalpha() and text[place + 1].isalpha() and symbol not in "’·–—'"
            cost += _SYMBOL_IN_WORD_COST if in_word else _SYMBOL_COST if symbol in _COMMON_SYMBOLS else _RARE_SYMBOL_COST
    return cost


def _cost_of_characters(text: str, codec: str) -> float:
    """Of Chinese, Japanese and Korean: common characters come first in their standards, and Japanese has kana beside them."""
    cost = 0.0
    is_japanese = codec in ("cp932", "euc_jp")
    for character, count in Counter(filter(_is_high, text)).items():
        lead = character.encode(codec)[0]
        if "\u3000" <= character < "\u3040" or "\uff01" <= character <= "\uff5e":
            each = 4.0  # punctuation and full-width ASCII
        elif "\u3040" <= character < "\u3100":
            each = 4.5 if is_japanese else 14.0
        elif "\uff61" <= character <= "\uff9f":
            each = 6.0  # half-width kana
        elif is_japanese:
            each = 8.7 if "\u4e00" <= character <= "\u9fff" and lead in _COMMON_LEADS[codec] else 13.0
        else:
            each = (7.0 if codec == "cp949" else 7.6) if lead in _COMMON_LEADS[codec] and _is_expected(character, codec) else 13.0
        cost += count * each
    return cost


def _is_high(character: str) -> bool:
    return character > "\x7f"


def _is_expected(character: str, codec: str) -> bool:
    return "\uac00" <= character <= "\ud7a3" if codec == "cp949" else "\u4e00" <= character <= "\u9fff"


# First bytes of the level of common characters of JIS X 0208, GB 2312, Big5 and KS X 1001.
_COMMON_LEADS: Final = {
    "cp932": frozenset(range(0x88, 0x99)),
    "euc_jp": frozenset(range(0xB0, 0xD0)),
    "gb18030": frozenset(range(0xB0, 0xD8)),
    "big5": frozenset(range(0xA4, 0xC7)),
    "cp949": frozenset(range(0xB0, 0xC9)),
}
