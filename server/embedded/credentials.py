"""Passwords and keys of the embedded servers, generated once per data folder."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically by a file that only this user can read."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


def load_or_create_secret(path: Path) -> str:
    """The secret in this file, generated and stored if missing."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


@dataclass(frozen=True)
class Credentials:
    """Credentials of clients. Letters and digits only, so that URLs and settings need no escaping."""

    postgres_password: str
    valkey_password: str
    s3_access_key_id: str
    s3_secret_access_key: str

    @classmethod
    def load_or_create(cls, data_dir: Path) -> Self:
        """The credentials of this folder, generated and stored if missing."""
        path = data_dir / "keys.json"
        if path.exists():
            return cls(**json.loads(path.read_text()))
        credentials = cls(
            postgres_password=secrets.token_hex(24),
            valkey_password=secrets.token_hex(24),
            s3_access_key_id=f"trellis{secrets.token_hex(6)}",  # rclone requires ten characters or more
            s3_secret_access_key=secrets.token_hex(24),
        )
        write_private(path, json.dumps(asdict(credentials), indent=2) + "\n")
        return credentials
