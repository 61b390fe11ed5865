"""The index of the search: an entry for each thing that can be found. PostgreSQL's triggers keep it, and nothing else writes it."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, enum_column
from db.core.policy import Owned


class SearchType(StrEnum):
    """What can be found."""

    DATASET = "dataset"
    PIPELINE = "pipeline"
    EXPERIMENT = "experiment"
    RUN = "run"
    MODEL = "model"
    STUDY = "study"


class SearchEntry(Table, policy=Owned()):
    """What can be found of one row, by the row's own id. The function `trellis_searchable` says what it has to be, and for which rows.

    `words` are those of the title in lower case, without accents and with identifiers split; `vector` has the lexemes of title and body in all languages.
    """

    __tablename__ = "search_entries"
    __table_args__ = (
        Index("ix_search_entries_owner_id_id", "owner_id", text("id DESC")),
        Index(
            "ix_search_entries_texts",
            "owner_id",
            "vector",
            "words",
            postgresql_using="gin",
            postgresql_ops={"words": "gin_trgm_ops"},
            postgresql_with={"gin_pending_list_limit": 512},  # kB: each search reads the whole list
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[SearchType] = enum_column("type", SearchType)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str]
    body: Mapped[str]
    words: Mapped[str]
    vector: Mapped[str] = mapped_column(TSVECTOR)
