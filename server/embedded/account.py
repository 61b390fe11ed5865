"""The user that PostgreSQL runs as if we are root, since it refuses to run as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

PREFERRED_USERS = ("trellis", "postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An unprivileged user. Children are started with `user`, `group` and empty `extra_groups`, so that they keep none of our groups."""

    name: str
    uid: int
    gid: int


def unprivileged_account(folder: Path) -> Account | None:
    """None if we are not root; else the owner of `folder` unless that is root, or the first of `PREFERRED_USERS` that exists.

    The owner comes first so that a folder keeps its user over restarts, and because the clone's owner may have created it before root
    started Trellis.
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
        "Create one (`useradd --system trellis`) or start Trellis as another user."
    )
