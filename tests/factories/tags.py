"""Tags: number i is on number i of each kind of thing; one is on nothing that is not deleted."""

from __future__ import annotations

from hashlib import md5

from db.tables import Tag
from tests.client import Client
from tests.factories import Example, Factory, Row

THINGS = ("dataset", "pipeline", "model", "experiment", "run", "study")
TABLES = {"study": "studies"}

_ROWS = """
INSERT INTO tags (id, owner_id, created_by_id, name, slug, color)
SELECT md5(u.username || ' tag ' || i)::uuid, u.id, u.id, 'tag ' || i, 'tag-' || i, '#1f77b4' FROM users u, generate_series(1, :count) i
WHERE u.username = :owner;
""" + "".join(
    f"""
INSERT INTO taggings (tag_id, {thing}_id, added_by_id)
SELECT md5(u.username || ' tag ' || x.i)::uuid, x.id, u.id
FROM users u JOIN (SELECT id, owner_id, row_number() OVER (PARTITION BY owner_id ORDER BY id) AS i FROM {TABLES.get(thing, f"{thing}s")}) x ON x.owner_id = u.id
WHERE u.username = :owner AND x.i <= :count;
"""
    for thing in THINGS
)

_STATES = """
INSERT INTO tags (id, owner_id, name, slug, color) SELECT ('ffff' || substr(md5(u.username), 5))::uuid, u.id, 'Of no use', 'of-no-use', '#ff7f0e'
FROM users u WHERE u.username = :owner;

INSERT INTO taggings (tag_id, dataset_id, is_live)
SELECT t.id, d.id, false FROM tags t JOIN users u ON u.id = t.owner_id JOIN datasets d ON d.owner_id = u.id
WHERE u.username = :owner AND t.name = 'Of no use' AND d.name = 'Deleted';
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    tagged = await ada.one(
        "mutation($input: TagInput!) { tag(input: $input) { ... on TagPayload { tags { id } } ... on Problem { message } } }",
        input={"ids": [ids["dataset"]], "tags": ["baseline"]},
    )
    ids["tag"] = tagged["tags"][0]["id"]


def _tagged(number: int) -> Example:
    def fits(thing: Row) -> bool:
        return any(tag["name"] == f"tag {number}" for tag in thing["tags"])

    return Example([f"tag_{md5(f'ada tag {number}'.encode(), usedforsecurity=False).hexdigest()}"], "tags { name }", fits)


FACTORY = Factory(
    ids={"tag": Tag},
    after=("datasets", "pipelines", "models", "experiments", "studies"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    examples={f"{thing.capitalize()}Filter.tags": (_tagged(1), _tagged(2), _tagged(9)) for thing in THINGS},
)
