"""Whom PostgreSQL runs as when we are root, which it refuses to be."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

PREFERRED_USERS = ("trellis", "postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user without privileges. A child becomes it by `user`, `group` and an empty `extra_groups`, so none of our groups stays."""

    name: str
    uid: int
    gid: int


def unprivileged_account(folder: Path) -> Account | None:
    """None where we are not root. Else the owner of `folder` if it has one other than root, or the first that exists of `PREFERRED`.

    The owner comes first because a folder keeps its user over restarts, and because a clone's own user may have made it
    before root started on it.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        try:
            return Account(pwd.getpwuid(owner.st_uid).pw_name, owner.st_uid, owner.st_gid)
        except KeyError:
            return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in PREFERRED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise LookupError(
        f"PostgreSQL does not run as root, and none of the users {', '.join(PREFERRED_USERS)} exists. "
        "Make one (`useradd --system trellis`) or start Trellis as another user."
    )
