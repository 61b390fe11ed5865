"""Text documents: their encoding, counts and language, and the table with their text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.archives import zip_of
from tests.workers.ingest_runner import column_types, ingest_error, items_of, run_ingest
from workers.ml.items import limits

ENGLISH = (
    "The old harbour was quiet that morning. Two fishermen mended their nets, and a dog slept in the sun!\n"
    "Nobody knew why the ship hadn't come back… Perhaps it never would"
)
GERMAN = "Der alte Hafen war an diesem Morgen still. Zwei Fischer flickten ihre Netze, während ein Hund in der Sonne schlief und träumte."
RUSSIAN = "Старая гавань в то утро была тихой. Двое рыбаков чинили свои сети, а собака спала на солнце."
FRENCH = "Le vieux port était calme ce matin-là. Deux pêcheurs réparaient leurs filets, et un chien dormait au soleil."


def _described(folder: Path, content: bytes, name: str = "a.txt") -> dict[str, Any]:
    result, _ = run_ingest(folder, content, name, modality="TEXT")
    assert result["format"] == "TEXT"
    (item,) = items_of(result)
    return item


def test_the_features_of_a_text_are_its_counts(tmp_path: Path) -> None:
    item = _described(tmp_path, ENGLISH.encode(), "harbour.md")
    words = ENGLISH.replace("…", " ").replace(".", " ").replace(",", " ").replace("!", " ").split()
    assert item["info"] == {"kind": "text", "characters": len(ENGLISH), "words": len(words), "language": "en"}
    assert item["features"] == pytest.approx(
        {
            "characters": len(ENGLISH),
            "words": len(words),
            "sentences": 4,
            "lines": 2,
            "mean_word_length": sum(map(len, words)) / len(words),
            "words_per_sentence": len(words) / 4,
            "distinct_words": len({word.lower() for word in words}),
            "distinct_share": len({word.lower() for word in words}) / len(words),
            "upper_case_share": 4 / len(ENGLISH),
            "digit_share": 0,
        }
    )
    assert (item["content_type"], item["issues"], item["preview_size"]) == ("text/markdown", [], None)


def test_a_long_run_of_marks_is_read_once(tmp_path: Path) -> None:
    item = _described(tmp_path, b"No" + b"." * 1_000_000 + b"yes")
    assert (item["info"]["words"], item["features"]["sentences"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "encoding", "language", "issues"),
    [
        (GERMAN, "utf-8", "de", []),
        (GERMAN, "utf-8-sig", "de", []),
        (GERMAN, "utf-16", "de", []),
        (GERMAN, "cp1252", "de", ["ENCODING_GUESSED"]),
        (FRENCH, "cp1252", "fr", ["ENCODING_GUESSED"]),
        (RUSSIAN, "utf-8", "ru", []),
        (RUSSIAN, "cp1251", "ru", ["ENCODING_GUESSED"]),
        (RUSSIAN, "koi8-r", "ru", ["ENCODING_GUESSED"]),
        ("x" * 70_000 + GERMAN, "cp1252", None, ["ENCODING_GUESSED", "TEXT_CUT"]),
        ("42", "ascii", None, []),
    ],
)
def test_a_text_is_read_in_its_encoding_and_its_language_is_told(
    text: str, encoding: str, language: str | None, issues: list[str], tmp_path: Path
) -> None:
    result, frame = run_ingest(tmp_path, text.replace("\n", "\r\n").encode(encoding), "a.txt", modality="TEXT")
    (item,) = items_of(result)
    assert frame["text"].to_list() == [text[:20_000]]
    assert [issue["code"] for issue in item["issues"]] == issues
    assert item["info"]["characters"] == len(text)
    if len(text) < 70_000:
        assert (item["info"]["language"], frame["language"].to_list()) == (language, [language])


def test_texts_are_rows_and_what_is_no_text_is_listed(tmp_path: Path) -> None:
    files = {f"notes/{number:02}.txt": f"{ENGLISH} {number}".encode() for number in range(25)}
    files |= {"notes/image.txt": bytes(range(256)) * 4, "notes/blank.txt": b" \n\n\t ", "letters/damaged.txt": GERMAN.encode() + b"\xff"}
    files |= {"README.md": b"About these.", "notes/scan.pdf": b"%PDF-"}
    result, frame = run_ingest(tmp_path, zip_of(files), "a.zip", modality="TEXT")
    items = {item["key"]: item for item in items_of(result)}
    assert {key: [issue["code"] for issue in item["issues"]] for key, item in items.items() if item["issues"]} == {
        "notes/image.txt": ["CORRUPT_ITEM"],
        "notes/blank.txt": ["CORRUPT_ITEM"],
        "letters/damaged.txt": ["DAMAGED_TEXT"],
    }
    assert [issue["code"] for issue in result["issues"]] == ["SKIPPED_FILES", "CORRUPT_ITEM", "CORRUPT_ITEM"]
    assert frame.columns[:4] == ["key", "label", "language", "text"]
    assert (frame.height, frame["text"][0], frame["text"][25]) == (26, f"{ENGLISH} 0", GERMAN + "\ufffd")
    assert column_types(result)["text"] == "STRING"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_line_of_a_single_file_is_a_text_where_that_is_asked_for(encoding: str, end: str, tmp_path: Path) -> None:
    lines = ["x" * 70_000, GERMAN.replace("\n", " "), "", "  \t", ENGLISH.replace("\n", " "), "ä"]
    content = end.join(lines).encode(encoding)
    result, frame = run_ingest(tmp_path, content, "a.txt", modality="TEXT", reading={"textLines": True})
    items = items_of(result)
    assert (result["format"], [item["key"] for item in items]) == ("TEXT", [f"line/000000{number}" for number in (1, 2, 5, 6)])
    assert frame["text"].to_list() == [line[:20_000] for line in lines if line.strip()]
    assert frame["language"].to_list() == [None, "de", "en", None]
    assert [issue["code"] for issue in result["issues"]] == ["ENCODING_GUESSED"] * (encoding == "cp1252")
    pack = (tmp_path / "items.pack").read_bytes()
    stored = [pack[item["byte_offset"] :][: item["stored_size"]] for item in items]
    assert [text.decode() for text in stored] == [line for line in lines if line.strip()]
    assert {item["content_type"] for item in items} == {"text/plain"}


def test_the_encoding_of_texts_is_the_one_that_is_given(tmp_path: Path) -> None:
    content = "größer als вода\nнет".encode()
    for name, reading, texts in (
        ("a.txt", {"encoding": "cp1251"}, [content.decode("cp1251", "replace")]),
        ("a.txt", {"encoding": "cp1251", "textLines": True}, content.decode("cp1251", "replace").split("\n")),
        ("a.zip", {"encoding": "utf-8", "textLines": True}, [content.decode()]),
    ):
        data = content if name == "a.txt" else zip_of({"b/1.txt": content})
        result, frame = run_ingest(tmp_path, data, name, modality="TEXT", reading=reading)
        assert frame["text"].to_list() == texts
        assert "ENCODING_GUESSED" not in [issue["code"] for issue in result["issues"]]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"\n \n\t\n", "EMPTY_FILE", "'a.txt' contains only blank lines."),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "BINARY_FILE", "'a.txt' is no text: it has binary data."),
        (b"a\n" + b"b" * 2_000, "ROW_TOO_LONG", "Line 2 of 'a.txt' has more than 1,000 characters."),
        (b"a\n" * 12, "TOO_MANY_ITEMS", "'a.txt' has more than 10 texts."),
    ],
)
def test_lines_that_are_no_texts_are_refused(
    content: bytes, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TEXT_BYTES", 1_000)
    monkeypatch.setattr(limits, "MAX_MEMBERS", 10)
    error = ingest_error(tmp_path, content, "a.txt", modality="TEXT", reading={"textLines": True})
    assert (error.code, words in error.message) == (code, True), error.message


def test_a_table_in_a_dataset_of_texts_stays_a_table(tmp_path: Path) -> None:
    for name, content in (("a.csv", "text,n\ngood,1\nbad,2\n"), ("a.jsonl", '{"text": "good", "n": 1}\n{"text": "bad", "n": 2}\n')):
        result, frame = run_ingest(tmp_path, content.encode(), name, modality="TEXT")
        assert "items" not in result
        assert frame.rows() == [("good", 1), ("bad", 2)]


DAMAGED: list[tuple[bytes, str]] = [
    (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "is no text: it has binary data"),
    (b"\n \n", "has nothing but blanks"),
    (b"a" * (16 * 1024**2 + 1), "a text may have 16,777,216"),
    (b"", "is empty"),
]


@pytest.mark.parametrize(("content", "words"), DAMAGED)
def test_what_is_no_text_is_refused_with_a_reason(content: bytes, words: str, tmp_path: Path) -> None:
    error = ingest_error(tmp_path, zip_of({"a/1.txt": content}, compressed=False), "a.zip", modality="TEXT")
    assert (error.code, words in error.message) == ("CORRUPT_ITEMS", True), error.message
