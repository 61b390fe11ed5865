"""Encryption of secrets that the database keeps, under keys that are derived from `TRELLIS_SECRET_KEY`.

A text is the version, a nonce, the ciphertext and a tag: HMAC-SHA-256 as a pseudorandom function in counter mode, then HMAC-SHA-256 over all
(encrypt, then MAC), each with its own key from HKDF (RFC 5869). The standard library has nothing else for it, and what is sealed is short.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from db.errors import NoSecretKey
from db.settings import StateSettings

_VERSION = b"\x01"
_NONCE_LENGTH = 16
_TAG_LENGTH = 32
_KEY_LENGTH = 32


def seal(settings: StateSettings, purpose: str, owner: UUID, secret: bytes) -> bytes:
    """Encrypt a secret, which only the same purpose and owner decrypt. Raises `NoSecretKey`."""
    encryption_key, mac_key = _keys(settings, purpose)
    nonce = secrets.token_bytes(_NONCE_LENGTH)
    sealed = _VERSION + nonce + _encrypt(encryption_key, nonce, secret)
    return sealed + _tag(mac_key, owner, sealed)


def unseal(settings: StateSettings, purpose: str, owner: UUID, sealed: bytes) -> bytes | None:
    """Decrypt a secret; None if it was sealed under another key, purpose or owner, or was changed. Raises `NoSecretKey`."""
    encryption_key, mac_key = _keys(settings, purpose)
    content, tag = sealed[:-_TAG_LENGTH], sealed[-_TAG_LENGTH:]
    if not content.startswith(_VERSION) or not hmac.compare_digest(_tag(mac_key, owner, content), tag):
        return None
    nonce, ciphertext = content[1 : 1 + _NONCE_LENGTH], content[1 + _NONCE_LENGTH :]
    return _encrypt(encryption_key, nonce, ciphertext)


def _encrypt(key: bytes, nonce: bytes, content: bytes) -> bytes:
    """Combine with the key stream of the nonce; the same once more decrypts."""
    blocks = range(-(-len(content) // hashlib.sha256().digest_size))
    stream = b"".join(hmac.digest(key, nonce + block.to_bytes(4), "sha256") for block in blocks)
    return bytes(byte ^ mask for byte, mask in zip(content, stream, strict=False))


def _tag(key: bytes, owner: UUID, content: bytes) -> bytes:
    return hmac.digest(key, owner.bytes + content, "sha256")


def _keys(settings: StateSettings, purpose: str) -> tuple[bytes, bytes]:
    """HKDF: the keys that encrypt and authenticate."""
    secret_key = settings.secret_key.get_secret_value()
    if not secret_key:
        raise NoSecretKey
    extracted = hmac.digest(bytes(_KEY_LENGTH), secret_key.encode(), "sha256")
    first = hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")
    return first, hmac.digest(extracted, first + purpose.encode() + b"\x02", "sha256")
