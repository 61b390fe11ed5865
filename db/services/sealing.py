"""Encryption of secrets that the database keeps, under keys that are derived from `TRELLIS_SECRET_KEY`.

A text is the version, a nonce and what AES-256-GCM makes of the secret with the owner's id as associated data (NIST SP 800-38D). Each purpose
has a key of its own, from HKDF-SHA-256 (RFC 5869).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from uuid import UUID

from db.errors import NoSecretKey
from db.settings import StateSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_LENGTH = 12


def seal(settings: StateSettings, purpose: str, owner: UUID, secret: bytes) -> bytes:
    """Encrypt a secret, which only the same purpose and owner decrypt. Raises `NoSecretKey`."""
    nonce = secrets.token_bytes(_NONCE_LENGTH)
    return _VERSION + nonce + _cipher(settings, purpose).encrypt(nonce, secret, owner.bytes)


def unseal(settings: StateSettings, purpose: str, owner: UUID, sealed: bytes) -> bytes | None:
    """Decrypt a secret; None if it was sealed under another key, purpose or owner, or was changed. Raises `NoSecretKey`."""
    from cryptography.exceptions import InvalidTag

    cipher, nonce, content = _cipher(settings, purpose), sealed[1 : 1 + _NONCE_LENGTH], sealed[1 + _NONCE_LENGTH :]
    if not sealed.startswith(_VERSION) or len(nonce) < _NONCE_LENGTH:
        return None
    try:
        return cipher.decrypt(nonce, content, owner.bytes)
    except InvalidTag:
        return None


def _cipher(settings: StateSettings, purpose: str) -> AESGCM:
    # Imported here: workers and most commands encrypt nothing.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret_key = settings.secret_key.get_secret_value()
    if not secret_key:
        raise NoSecretKey
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(secret_key.encode()))
