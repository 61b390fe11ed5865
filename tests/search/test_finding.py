"""What is found by which words, and how it is shown."""

from __future__ import annotations

import pytest

from db.core.work import Database
from db.queries import search as searches
from tests.client import Client
from tests.search.searching import add, add_dataset, add_run, search, titles


async def test_everything_is_found_by_its_words(ada: Client, database: Database) -> None:
    await add_dataset(database, "ada", "Gearbox", "Vibrations of a damaged bearing.", ["rpm", "spindle_load"])
    await add(database, "pipelines", "ada", {"Spindle features": None})
    (experiment,) = await add(database, "experiments", "ada", {"Tool wear": "Does the spindle load tell the wear of a tool?"})
    await add(database, "models", "ada", {"Forest": "Trained on spindles."})
    await add_run(database, experiment, None, "Diverged: the spindle was cold.")
    await add_run(database, experiment, None, None)
    found = await search(ada, "spindle")
    assert {(edge["node"]["__typename"], edge["title"], edge["snippet"]) for edge in found["edges"]} == {
        ("Dataset", "Gearbox", "Vibrations of a damaged bearing. rpm, «spindle»_load"),
        ("Pipeline", "Spindle features", "«Spindle» features"),
        ("Experiment", "Tool wear", "Does the «spindle» load tell the wear of a tool?"),
        ("Model", "Forest", "Trained on «spindles»."),
        ("Run", "Run 1", "Diverged: the «spindle» was cold."),
    }
    assert found["edges"][0]["title"] == "Spindle features", "a name counts more than a text"
    ranks = [edge["rank"] for edge in found["edges"]]
    assert (ranks, found["isPartial"]) == (sorted(ranks, reverse=True), False)
    assert set(await titles(ada, "spindle", types=["RUN", "MODEL"])) == {"Run 1", "Forest"}
    assert await titles(ada, "spindle", types=[]) == []


TYPED = (
    ("vibration", ["bearing_vibration_42"]),
    ("bearing vibration", ["bearing_vibration_42"]),
    ("BearingVibration42", ["bearing_vibration_42"]),
    ("bearing-vibration", ["bearing_vibration_42"]),
    ("bearing vibr", ["bearing_vibration_42"]),
    ("bearing vib ", ["bearing_vibration_42"]),  # by similar words: the space ends the last one
    ('-box "bearing" vibr', ["bearing_vibration_42"]),
    ('"bearing" vib ', []),
    ("gear box", ["GearBox-7"]),
    ("gearbox-7", ["GearBox-7"]),
    ("epreuve", ["Épreuve d’effort"]),
    ("ÉPREUVES", ["Épreuve d’effort"]),
    ("effort", ["Épreuve d’effort"]),
    ('"measured slowly"', ["slow"]),
    ('"slowly measured"', []),
    ("measured -slowly", ["fast"]),
    ("slowly or quickly", ["slow", "fast"]),
    ("vibraiton", ["bearing_vibration_42"]),
    ("bering", ["bearing_vibration_42"]),
    ("数据", ["数据集"]),
)


async def test_words_are_found_as_people_type_them(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"slow": "It was measured slowly.", "fast": "It was measured quickly.", "GearBox-7": None, "bearing_vibration_42": None}
    await add(database, "models", "ada", {**texts, "Épreuve d’effort": None, "数据集": None})
    assert {query: await titles(ada, query) for query, _ in TYPED} == dict(TYPED)
    monkeypatch.setattr(searches, "SMALL", 0)  # as for who has many things, of which an index is searched
    assert {query: await titles(ada, query) for query, _ in TYPED} == dict(TYPED)


async def test_words_that_only_join_others_find_what_is_newest(ada: Client, database: Database) -> None:
    await add(database, "experiments", "ada", {"first": "the one", "second": "of the two", "third": None})
    for query in ("the", "und der", "", "  ", '"" - (', "🚀"):
        found = await search(ada, query, first=2)
        assert [edge["title"] for edge in found["edges"]] == ["third", "second"], query
        rest = await search(ada, query, first=2, after=found["pageInfo"]["endCursor"])
        assert ([edge["title"] for edge in rest["edges"]], rest["pageInfo"]["hasNextPage"]) == (["first"], False)
    await add(database, "experiments", "ada", {"Der Ring": None})
    assert await titles(ada, "der") == ["Der Ring"]


async def test_a_snippet_is_a_short_part_of_the_text_without_marks_of_its_own(ada: Client, database: Database) -> None:
    await add(
        database, "models", "ada", {"<b>bold</b> «mark»": "x" * 30 + " word" * 100 + " «needle» <script>alert(1)</script>" + " word" * 100}
    )
    (edge,) = (await search(ada, "needle"))["edges"]
    assert edge["title"] == "<b>bold</b> «mark»"
    assert "word «needle» <script>alert(1)</script> word" in edge["snippet"]
    assert (edge["snippet"][0], edge["snippet"][-1], edge["snippet"].count("«")) == ("…", "…", 1)
    assert len(edge["snippet"]) <= 202
    (edge,) = (await search(ada, "bold"))["edges"]
    assert edge["snippet"] == "<b>«bold»</b> mark"


async def test_pages_go_on_in_the_list_that_they_began_with(ada: Client, database: Database) -> None:
    await add(database, "models", "ada", {f"bearing {number}": "bearing " * number for number in range(1, 8)})
    whole = await titles(ada, "bearing")
    assert len(whole) == 7
    first = await search(ada, "bearing", first=3)
    assert first["pageInfo"]["hasNextPage"]
    await add(database, "models", "ada", {"bearing": None})  # the best of all
    rest = await search(ada, "bearing", first=10, after=first["pageInfo"]["endCursor"])
    assert [edge["title"] for edge in (*first["edges"], *rest["edges"])] == whole
    assert rest["pageInfo"]["hasPreviousPage"]
    # Of a word with a mistake: what follows is similar too, though the words alone match nothing.
    similar = await search(ada, "baering", first=2)
    assert max(edge["rank"] for edge in similar["edges"]) < 1
    following = await search(ada, "baering", first=10, after=similar["pageInfo"]["endCursor"])
    assert len({edge["node"]["id"] for edge in (*similar["edges"], *following["edges"])}) == 8
    for query, arguments in (("bearings", {}), ("bearing", {"types": ["MODEL"]}), ("baering", {})):
        answer = await ada.post(
            "query($q: String!, $a: String, $t: [SearchType!]) { search(query: $q, after: $a, types: $t) { isPartial } }",
            q=query,
            a=first["pageInfo"]["endCursor"],
            t=arguments.get("types"),
        )
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]


NASTY = (
    "(((", '"unclosed & weird:* ((', "a & | !", ":*", "''", "\\", "%_", "-", "--", '-"', "or", "or or or", "-or", "-the", "-bearing",
    "bearing\x00wear", "«bearing»", "<b>bearing</b>", "'; DROP TABLE users; --", "محرك", "\u200fשלום\u200f", "bearing 🚀", "e\u0301preuve", "ﬁne",
    "a" * 256, "a " * 128, "-a " * 85, '"a' * 128, "Ⅷ ½ ٣", "\u202ebearing", "\ufeffbearing",
)  # fmt: skip


async def test_every_query_has_an_answer(ada: Client, database: Database) -> None:
    await add(database, "models", "ada", {"bearing": "wear", "محرك": None, "שלום": None, "épreuve": None})
    for query in NASTY:
        found = await search(ada, query)
        assert all(edge["node"]["id"] for edge in found["edges"]), query
    for query in ("bearing\x00wear", "«bearing»", "<b>bearing", "\u202ebearing", "bearing 🚀"):
        assert await titles(ada, query) == ["bearing"], query
    assert [await titles(ada, query) for query in ("محرك", "\u200fשלום\u200f", "e\u0301preuve")] == [["محرك"], ["שלום"], ["épreuve"]]
    answer = await ada.post("query($q: String!) { search(query: $q) { isPartial } }", q="x" * 10_000)
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], error["message"]) == (
        "BAD_USER_INPUT",
        "`query` has 10,000 characters; at most 256 are looked for. Leave out all but the important words.",
    )


async def test_of_more_than_a_thousand_the_newest_are_ranked(ada: Client, database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("""
          INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
          SELECT 'model', uuidv7(), u.id, 'gear', '', 'gear', trellis_search_vector('gear', '') FROM users u, generate_series(1, 1001) WHERE u.username = 'ada'
        """)
    answer = await ada.one('{ search(query: "gear", first: 1) { isPartial edges { title } } }')
    assert answer == {"isPartial": True, "edges": [{"title": "gear"}]}
