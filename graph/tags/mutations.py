"""Mutations that create, change and delete tags, put them on things and take them off."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import NotFound as UnknownId
from db.queries import tags as tag_queries
from db.services import tags
from db.services.tags import KINDS, Thing
from graph.core.context import Context, Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import NODE_REGISTRY, decode, lookup_key, owner_key, parse
from graph.core.permissions import mutation
from graph.core.problems import InvalidInput, NameTaken, NotFound
from graph.tags.inputs import CreateTagInput, DeleteTagInput, TagInput, UntagInput, UpdateTagInput
from graph.tags.types import Tag, Taggable


@strawberry.type(description="The tag was created.")
class CreateTagPayload:
    tag_id: strawberry.Private[UUID]
    tag: Tag = one(tag_queries.by_id, key="tag_id", description="The new tag.")


@strawberry.type(description="The tag was changed, wherever it is.")
class UpdateTagPayload:
    tag_id: strawberry.Private[UUID]
    tag: Tag = one(tag_queries.by_id, key="tag_id", description="The updated tag.")


@strawberry.type(description="The tag was deleted, and is on nothing any more.")
class DeleteTagPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted tag, to remove it from caches.")


async def _loaded(context: Context, things: Sequence[Thing]) -> list[Any]:
    registered = [(NODE_REGISTRY[thing.kind], thing.id) for thing in things]
    return list(await asyncio.gather(*(context.loaders.one(node.found_by, node.type.of).load(key) for node, key in registered)))


@strawberry.type(description="The tags are on all of the things.")
class TagPayload:
    things: strawberry.Private[Sequence[Thing]]
    tag_ids: strawberry.Private[Sequence[UUID]]

    @strawberry.field(metadata=costs(entries=10), description="What has the tags now, in the order of the input.")
    async def subjects(self, info: Info) -> list[Taggable]:
        return await _loaded(info.context, self.things)

    @strawberry.field(metadata=costs(entries=10), description="The tags of the input, new ones included, the oldest first.")
    async def tags(self, info: Info) -> list[Tag]:
        loader = info.context.loaders.one(tag_queries.by_id, Tag.of)
        return [tag for tag in await loader.load_many(sorted(self.tag_ids)) if tag is not None]


@strawberry.type(description="The tags are on none of the things.")
class UntagPayload:
    things: strawberry.Private[Sequence[Thing]]

    @strawberry.field(metadata=costs(entries=10), description="What does not have the tags any more, in the order of the input.")
    async def subjects(self, info: Info) -> list[Taggable]:
        return await _loaded(info.context, self.things)


CreateTagResult = Annotated[
    CreateTagPayload | NameTaken | InvalidInput,
    strawberry.union("CreateTagResult", description="The possible results of `createTag`."),
]
UpdateTagResult = Annotated[
    UpdateTagPayload | NotFound | NameTaken | InvalidInput,
    strawberry.union("UpdateTagResult", description="The possible results of `updateTag`."),
]
DeleteTagResult = Annotated[
    DeleteTagPayload | NotFound, strawberry.union("DeleteTagResult", description="The possible results of `deleteTag`.")
]
TagResult = Annotated[TagPayload | NotFound | InvalidInput, strawberry.union("TagResult", description="The possible results of `tag`.")]
UntagResult = Annotated[
    UntagPayload | NotFound | InvalidInput, strawberry.union("UntagResult", description="The possible results of `untag`.")
]


def _things(input: TagInput | UntagInput) -> list[Thing]:
    """Return what is to be changed, once each. Raises `NotFound` for an id of a type that has no tags."""
    ids = ([] if input.id is None else [input.id]) + (input.ids or [])
    things: dict[Thing, None] = {}
    for text in ids:
        parsed = parse(text)
        if parsed is None or parsed[0] not in KINDS:
            raise UnknownId(text)
        things[Thing(*parsed)] = None
    return list(things)


def _wanted(input: TagInput | UntagInput) -> list[str | UUID]:
    """Return the tags by id where the text is one, else by name."""
    return [text if (key := lookup_key(Tag.prefix, text)) is None else key for text in input.tags]


@strawberry.type
class TagMutations:
    @mutation(description="Create a tag. `tag` creates those that are missing by itself.")
    async def create_tag(
        self, info: Info, input: Annotated[CreateTagInput, strawberry.argument(description="The tag to create.")]
    ) -> CreateTagResult:
        new_tag = tags.NewTag(input.name, input.color, owner_key(input.owner_id))
        async with info.context.work() as work:
            tag_id = await tags.create(work, new_tag)
        return CreateTagPayload(tag_id=tag_id)

    @mutation(description="Change the name or the color of a tag, wherever it is.")
    async def update_tag(
        self, info: Info, input: Annotated[UpdateTagInput, strawberry.argument(description="The changes.")]
    ) -> UpdateTagResult:
        async with info.context.work() as work:
            tag_id = await tags.update(work, decode("tag", input.id), input.changes())
        return UpdateTagPayload(tag_id=tag_id)

    @mutation(description="Delete a tag, which takes it off everything. The things themselves stay.")
    async def delete_tag(
        self, info: Info, input: Annotated[DeleteTagInput, strawberry.argument(description="The tag to delete.")]
    ) -> DeleteTagResult:
        async with info.context.work() as work:
            await tags.remove(work, decode("tag", input.id))
        return DeleteTagPayload(deleted_id=input.id)

    @mutation(
        description="Put tags on one thing or several: datasets, pipelines, models, experiments, runs and studies of one account. All of them get all of the tags,"
        " or none does. Tags belong to the account that owns the things."
    )
    async def tag(self, info: Info, input: Annotated[TagInput, strawberry.argument(description="What to tag, and the tags.")]) -> TagResult:
        things = _things(input)
        async with info.context.work() as work:
            tag_ids = await tags.put_on(work, things, _wanted(input))
        return TagPayload(things=things, tag_ids=tag_ids)

    @mutation(description="Take tags off one thing or several of one account.")
    async def untag(
        self, info: Info, input: Annotated[UntagInput, strawberry.argument(description="What to take tags from, and the tags.")]
    ) -> UntagResult:
        things = _things(input)
        async with info.context.work() as work:
            await tags.take_off(work, things, _wanted(input))
        return UntagPayload(things=things)
