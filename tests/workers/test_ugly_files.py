"""Tables as people have them: exports of banks, devices and surveys, and numbers and dates as countries write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.files import workbook
from tests.workers.read_files import Columns, Places, columns_and_issues, dates, floats, integers, opened, texts

STATEMENT = """Umsatzanzeige;Datei erstellt am: 14.03.2024 09:12

IBAN;DE12 5001 0517 0648 4898 90
Kontoname;Girokonto
Bank;Hausbank
Kunde;Max Müller
Zeitraum;01.02.2024 - 14.03.2024
Saldo;1.234,56;EUR

Buchung;Empfänger;Betrag;Währung
14.03.2024;Markt;-45,99;EUR
12.03.2024;Müller GmbH;2.950,00;EUR
01.03.2024;Vermieter;-1.100,00;EUR
"""
SURVEY = [["Survey 2024"], [], ["ID", "Product", None, "Age"], [1, 5, 4, 30], [2, 3, 4, 31], [3, 2, 1, 29]]
SKIPPED = ("SKIPPED_LINES", None, None)
CASES: list[tuple[str, str, str | bytes, Columns, Places]] = [
    (
        "a bank statement", "statement.csv", STATEMENT.encode("cp1252"),
        {
            "Buchung": dates(date(2024, 3, 14), date(2024, 3, 12), date(2024, 3, 1)),
            "Empfänger": texts("Markt", "Müller GmbH", "Vermieter"),
            "Betrag": floats(-45.99, 2950.0, -1100.0),
            "Währung": texts("EUR", "EUR", "EUR"),
        },
        [SKIPPED, ("ENCODING_GUESSED", None, None)],
    ),
    (
        "a note with a comma", "a.csv", "Report of 2024-01-01, by Alice\n\nid,name,v\n1,a,2\n2,b,3\n",
        {"id": integers(1, 2), "name": texts("a", "b"), "v": integers(2, 3)}, [SKIPPED],
    ),
    (
        "a short header is none", "a.csv", "name,city\nAnna,Berlin,x\nBob,Paris,5\n",
        {"name": texts("Anna", "Bob"), "city": texts("Berlin", "Paris"), "column_3": texts("x", "5")}, [("EMPTY_COLUMN_NAME", "column_3", None)],
    ),
    (
        "a title above a header with merged cells", "a.xlsx", workbook(Survey=SURVEY),
        {"ID": integers(1, 2, 3), "Product": integers(5, 3, 2), "column_3": integers(4, 4, 1), "Age": integers(30, 31, 29)},
        [SKIPPED, ("EMPTY_COLUMN_NAME", "column_3", None)],
    ),
    (
        "numbers of India", "a.csv", 'n,d\n"12,34,567.00",31-03-2024\n"1,00,000.5",15-04-2024\n"45,000.00",01-05-2024\n',
        {"n": floats(1234567.0, 100000.5, 45000.0), "d": dates(date(2024, 3, 31), date(2024, 4, 15), date(2024, 5, 1))},
        [("NUMBER_SPELLING", "n", 1)],
    ),
    (
        "hyphens between day and month", "a.csv", "a;b;c\n03-04-2024;12-31-2024;31-12-2024 10:30\n05-06-2024;01-02-2024;01-02-2024 11:00\n",
        {
            "a": texts("03-04-2024", "05-06-2024"),
            "b": dates(date(2024, 12, 31), date(2024, 1, 2)),
            "c": ("DATETIME", [datetime(2024, 12, 31, 10, 30), datetime(2024, 2, 1, 11)]),
        },
        [("OPEN_DATES", "a", 1)],
    ),
    (
        "amounts of accounts", "a.csv", "a;b;c\n1.200.000;1.234,56-;1 234 567,89\n(700.000);99,90;234 567,10\n",
        {"a": texts("1.200.000", "(700.000)"), "b": texts("1.234,56-", "99,90"), "c": texts("1 234 567,89", "234 567,10")},
        [("KEPT_AS_TEXT", "a", 2), ("KEPT_AS_TEXT", "b", 1), ("KEPT_AS_TEXT", "c", 1)],
    ),
    (
        "dates in words", "a.csv", "a;b;c;d\n1 Jan 2024;Jan 13, 2024;31.01.24;01/31/2024 10:00 AM\n13 Mar 2024;Feb 1, 2024;29.02.24;02/29/2024 1:30 PM\n",
        {
            "a": texts("1 Jan 2024", "13 Mar 2024"), "b": texts("Jan 13, 2024", "Feb 1, 2024"), "c": texts("31.01.24", "29.02.24"),
            "d": texts("01/31/2024 10:00 AM", "02/29/2024 1:30 PM"),
        },
        [("KEPT_AS_TEXT", name, 1) for name in "abcd"],
    ),
    (
        "dates in words as strings of JSON", "a.json", '[{"a": "1 Jan 2024", "n": "1 234,5"}, {"a": "13 Mar 2024", "n": "2 345,5"}]',
        {"a": texts("1 Jan 2024", "13 Mar 2024"), "n": texts("1 234,5", "2 345,5")}, [("KEPT_AS_TEXT", "a", 1)],
    ),
    (
        "a log between spaces", "a.log", "time temp status\n2024-01-01T00:00:00Z 21.5 OK\n2024-01-01T00:00:10Z 21.6 OK\n",
        {"time temp status": texts("2024-01-01T00:00:00Z 21.5 OK", "2024-01-01T00:00:10Z 21.6 OK")}, [("ONE_COLUMN", None, None)],
    ),
    (
        "columns of fixed width", "a.txt", "ID   NAME\n001  Al Li\n002  Bo\n",
        {"ID   NAME": texts("001  Al Li", "002  Bo")}, [("ONE_COLUMN", None, None)],
    ),
    ("sentences", "a.csv", "text\none two three\nfour five six\n", {"text": texts("one two three", "four five six")}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "name", "columns", "issues"), [(case[2], *case[1:2], *case[3:]) for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_ugly_table_is_read_or_said(tmp_path: Path, content: str | bytes, name: str, columns: Columns, issues: Places) -> None:
    assert columns_and_issues(tmp_path, name, content) == (columns, sorted(issues, key=str))


def test_times_with_an_offset_may_have_the_day_first(tmp_path: Path) -> None:
    found, _ = columns_and_issues(tmp_path, "a.csv", "at\n31-12-2024 10:30:00Z\n13-01-2024 11:00:00Z\n")
    assert found == {"at": ("DATETIME", [datetime(2024, 12, 31, 10, 30, tzinfo=UTC), datetime(2024, 1, 13, 11, tzinfo=UTC)])}


SHORT_FILES = {
    "cp1250": [
        "Miasto;Ludność\nŁódź;672185\nGdańsk;486022\n",
        "město;počet\nPlzeň;2\nÚstí nad Labem;3\n", "név;kor\nGyőr;1\nhűtő;3\n", "Grad;Broj\nŠibenik;3\nČakovec;4\nPožega;1\n",
    ],
    "cp1251": ["Имя;Возраст\nИван;34\n", "товар,цена\nхлеб,50\n", "Місто;Населення\nКиїв;3\n", "да\nнет\n"],
    "cp1252": [
        "nome;preço\nJoão;10,5\n", "Straße;Größe\nÄcker;1\n", "Prénom;Ville\nœuvre;Nîmes\n",
        "Año;Niño\n2020;Peña\n", "By\nÆrø\n", "price,unit\n5 €,m²\n7 £,°C\n", "Borg\nÍsafjörður\n",
    ],
    "cp1253": ["Όνομα;Ηλικία\nΜαρία;29\n"],
    "cp1254": ["Şehir;Nüfus\nİstanbul;15840900\n", "Ad,Yaş\nAyşe,30\n"],
    "cp1255": ["שם,גיל,עיר\nדוד,34,חיפה\n", "מוצר;מחיר\nלחם;7.5\n", "שלום\nדוד\n"],
    "cp1256": ["الاسم,العمر\nمحمد,34\n"],
    "cp1257": ["Miestas;Gyventojai\nŠiauliai;1\nPanevėžys;2\n", "Pilsēta;Iedzīvotāji\nCēsis;1\n"],
    "iso8859_2": ["Miasto;Ludność\nŁódź;672185\nŚwidnica;3\n", "město;počet\nŽďár;1\nšťastný;2\n"],
    "koi8_r": ["Имя;Возраст\nИван;34\n", "товар,цена\nмолоко,80\n"],
    "cp932": ["名前,年齢\n田中,34\n", "商品;価格\nりんご;100\n"],
    "euc_jp": ["商品;価格\nりんご;100\n"],
    "gb18030": ["姓名,年龄\n王伟,34\n", "城市;人口\n北京;2100\n"],
    "big5": ["姓名,年齡\n王偉,34\n李娜,29\n"],
    "cp949": ["이름,나이\n김철수,34\n", "도시;인구\n서울;970\n"],
}  # fmt: skip


@pytest.mark.parametrize("codec", SHORT_FILES)
def test_the_encoding_of_a_short_file_is_told_by_its_language(tmp_path: Path, codec: str) -> None:
    for text in SHORT_FILES[codec]:
        reader = opened(tmp_path, "a.csv", text.encode(codec))
        assert "".join(reader.names) == text.split("\n", 1)[0].replace(";", "").replace(",", "")
        written = text.split("\n")[1:-1]
        cells = [";".join(map(str, row)) for frame in reader.frames() for row in frame.rows()]
        assert [line.split(";")[0] for line in cells] == [line.replace(",", ";").split(";")[0] for line in written]
