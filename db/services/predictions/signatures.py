"""The signatures of model versions: the columns that a model takes. They lie beside the model's file in the object store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, select

from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, invalid
from db.queries.artifacts import MODEL, SIGNATURE
from db.services import extras
from db.stores.objects import ObjectStore
from db.tables import Artifact, Model, ModelVersion, StoredObject
from db.tables.datasets import Modality
from db.tables.models import ModelFormat

MAX_SIGNATURE_BYTES = 4 * 1024**2
PREDICTING_FORMATS = (ModelFormat.SKOPS, ModelFormat.ONNX, ModelFormat.LIGHTGBM)

_KNOWN_ORIGINS = frozenset({"column", "part", "clean", "embedding"})
"""What the `from` of a column has that predictions compute themselves."""

# Signatures never change, and are found by their checksum. The widest has some 200 kB.
_CACHED_SIGNATURES = 64
_cache: OrderedDict[str, Signature] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Input:
    """A column that a model takes. `kind` is number or text. With a `source`, it is the `part` of that column of dates, or without a part
    that column under another name, or a number of the embedding of that text if it `is_embedded`. One that `is_computed` in another way, as by a formula, is to
    be given as it was computed. One that `is_read` is computed from the contents of items, where there are any.

    `is_nullable` if the model can predict without a value, None where the signature does not tell.
    """

    name: str
    kind: str
    source: str | None
    part: str | None
    is_nullable: bool | None
    is_computed: bool = False
    is_read: bool = False
    is_embedded: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """The columns that a model takes, and the one that it predicts, if any. `modalities` are those of the items whose contents it reads.

    `classes` are what it tells apart, as texts; none of a model that does not classify. `files` are the columns that name what is read, where rows are no items.
    """

    inputs: Sequence[Input]
    target: str | None
    modalities: Sequence[str] = ()
    classes: Sequence[str] = ()
    files: Sequence[str] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Signature:
        contents = document.get("contents", {})
        read = {str(name) for names in contents.get("columns", {}).values() for name in names}
        roots: dict[str, str] = {}  # of columns that are made of one other, or of themselves
        for each in document.get("derived", ()):
            if each["from"].keys() in ({"column"}, {"column", "clean"}):
                column = str(each["from"]["column"])
                roots[str(each["name"])] = roots.get(column, column)
        computed = _computed(document.get("derived", ()))
        inputs = [_input(each, read, roots, computed) for each in document["inputs"]]
        output = document["output"]
        return cls(
            inputs,
            output.get("target"),
            modalities=tuple(contents.get("modalities", ())),
            classes=tuple(map(_label, output.get("classes", ()))),
            files=tuple(contents.get("files", ())),
        )


def _computed(derived: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names of the columns that are made of others in a way that another column cannot be followed through, and of columns made of such."""
    computed: set[str] = set()
    for each in derived:
        origin = each["from"]
        if not origin.keys() <= _KNOWN_ORIGINS or "embedding" in origin or origin.get("column") in computed:
            computed.add(str(each["name"]))
    return computed


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _input(document: Mapping[str, Any], read: AbstractSet[str], roots: Mapping[str, str], computed: AbstractSet[str]) -> Input:
    origin = document.get("from", {})
    is_read = origin.keys() == {"content"} or origin.get("column") in read
    # A column that was computed may have the name of one of the version, which is not what the model takes.
    is_known = is_read or (origin.keys() <= _KNOWN_ORIGINS and origin.get("column") not in computed)
    is_embedded = "embedding" in origin
    source = origin.get("column")
    if is_embedded or "clean" in origin:
        source = roots.get(str(source) if is_embedded else document["name"], source)
    return Input(
        name=document["name"],
        kind=document["kind"],
        source=source if is_known else None,
        part=origin.get("part"),
        is_nullable=document.get("nullable"),
        is_computed=not is_known,
        is_read=is_read,
        is_embedded=is_known and is_embedded,
    )


def needed_extras(model: Row[Any], signature: Signature) -> list[str]:
    """The extras of the package that a worker must have to predict with the model."""
    reads_videos = Modality.VIDEO.name in signature.modalities
    embeds = any(each.is_embedded for each in signature.inputs)
    needed = [*extras.of_framework(model.framework), *extras.of_modality(Modality.VIDEO if reads_videos else None)]
    return [*needed, extras.EMBEDDINGS] if embeds else needed


async def load_model(work: Work, version_id: UUID) -> Row[Any]:
    """Load a version of a model that is not deleted, and where its signature lies; keep the model from being deleted meanwhile.

    Raises `NotFound`, or `InvalidInput` for a version that cannot predict.
    """
    signature = select(StoredObject.object_key, StoredObject.sha256).join(Artifact, Artifact.object_id == StoredObject.id)
    signature = signature.where(Artifact.model_version_id == ModelVersion.id, Artifact.role == SIGNATURE).limit(1).lateral("signature")
    has_file = select(Artifact.id).where(Artifact.model_version_id == ModelVersion.id, Artifact.role == MODEL).exists()
    statement = (
        select(
            ModelVersion.id,
            ModelVersion.number,
            ModelVersion.format,
            ModelVersion.algorithm,
            ModelVersion.framework,
            ModelVersion.problem_type,
            ModelVersion.run_id,
            Model.name,
            Model.owner_id,
            signature.c.object_key.label("signature_key"),
            signature.c.sha256.label("signature_sha256"),
            has_file.label("has_file"),
        )
        .join(Model, Model.id == ModelVersion.model_id)
        .outerjoin(signature, ModelVersion.id == ModelVersion.id)
        .where(
            ModelVersion.id == version_id, Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None), visible(ModelVersion, work.viewer)
        )
        .with_for_update(of=[Model, ModelVersion], read=True, key_share=True)
    )
    model = await work.first(statement)
    if model is None:
        raise NotFound(str(version_id))
    if model.format not in PREDICTING_FORMATS or not model.has_file or model.signature_key is None:
        reason = "its file is kept and never loaded" if model.format not in PREDICTING_FORMATS else "it is not known what it takes"
        way_out = "Choose a version that was trained here, or register one in another format, with its inputs."
        raise invalid("modelVersionId", message=f"{model.name} v{model.number} cannot predict: {reason}. {way_out}")
    return model


async def read_signature(objects: ObjectStore, model: Row[Any]) -> Signature:
    """Return the signature of a model version, without a transaction, since the store may be slow."""
    signature = _cache.get(model.signature_sha256)
    if signature is None:
        signature = Signature.of(orjson.loads(await objects.read(model.signature_key, MAX_SIGNATURE_BYTES)))
        _cache[model.signature_sha256] = signature
        if len(_cache) > _CACHED_SIGNATURES:
            _cache.popitem(last=False)
    else:
        _cache.move_to_end(model.signature_sha256)
    return signature
