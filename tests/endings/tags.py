"""The endings of mutations on tags."""

from __future__ import annotations

from tests.endings import UNKNOWN, Endings, World, endings_of

_CREATE = "mutation($input: CreateTagInput!) { createTag(input: $input) { ... on CreateTagPayload { tag { id } } } }"


@endings_of("createTag")
async def create_tag(world: World) -> Endings:
    yield "CreateTagPayload", {"name": "t", "color": "#1f77b4"}
    yield "NameTaken", {"name": "T"}
    yield "InvalidInput", {"name": "u", "color": "red"}


@endings_of("updateTag")
async def update_tag(world: World) -> Endings:
    tag = (await world.ada.one(_CREATE, input={"name": "t"}))["tag"]["id"]
    await world.ada.one(_CREATE, input={"name": "taken"})
    yield "UpdateTagPayload", {"id": tag, "name": "new name", "color": "#000000"}
    yield "NotFound", {"id": f"tag_{UNKNOWN}", "name": "x"}
    yield "NameTaken", {"id": tag, "name": "Taken"}
    yield "InvalidInput", {"id": tag, "name": None}


@endings_of("deleteTag")
async def delete_tag(world: World) -> Endings:
    yield "DeleteTagPayload", {"id": (await world.ada.one(_CREATE, input={"name": "t"}))["tag"]["id"]}
    yield "NotFound", {"id": f"tag_{UNKNOWN}"}


@endings_of("tag")
async def tag(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    yield "TagPayload", {"id": dataset, "tags": ["t"]}
    yield "NotFound", {"id": f"dataset_{UNKNOWN}", "tags": ["t"]}
    yield "InvalidInput", {"id": dataset, "tags": [""]}


@endings_of("untag")
async def untag(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    await world.ada.one("mutation($input: TagInput!) { tag(input: $input) { __typename } }", input={"id": dataset, "tags": ["t"]})
    yield "UntagPayload", {"id": dataset, "tags": ["T"]}
    yield "NotFound", {"id": dataset, "tags": [f"tag_{UNKNOWN}"]}
    yield "InvalidInput", {"ids": [], "tags": ["t"]}
