"""Mails from templates: HTML, in which names are escaped, with plain text beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True)
class ComposedMail:
    """A mail as it is sent. `headers` are those besides sender, recipient, subject and date."""

    address: str
    subject: str
    text: str
    html: str
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a mail: words, a link, or what stands as it is, such as a token."""

    text: str
    is_link: bool = False
    is_literal: bool = False


@cache
def _environment() -> Environment:
    # Imported here, since every process imports this module and few of them ever send mail: it takes a twentieth of an API process's start.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, address: str, subject: str, values: dict[str, Any], headers: dict[str, str] | None = None) -> ComposedMail:
    """A mail of the two files of a template."""
    environment, values = _environment(), {"subject": subject, **values}
    text = environment.get_template(f"{template}.txt").render(values).rstrip() + "\n"
    return ComposedMail(address, subject, text, environment.get_template(f"{template}.html").render(values), headers or {})


def blocks_of(paragraphs: Sequence[str], public_url: str) -> list[Block]:
    """The parts of paragraphs of plain text. What is indented stands as it is; if it is a page of ours, it is a link.

    Another address is none, since a name that somebody chose may look like one.
    """
    blocks: list[Block] = []
    for part in "\n\n".join(paragraphs).split("\n\n"):
        for is_literal, lines in groupby(part.splitlines(), key=lambda line: line.startswith("  ")):
            text = "\n".join(line.removeprefix("  ") if is_literal else line.strip() for line in lines)
            is_link = is_literal and bool(public_url) and text.startswith(public_url.rstrip("/") + "/") and len(text.split()) == 1
            if text:
                blocks.append(Block(text, is_link=is_link, is_literal=is_literal))
    return blocks
