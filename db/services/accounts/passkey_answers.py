"""What passkeys answer (WebAuthn, level 3): the options that a browser asks them with, and the verification of what comes back.

The library is imported when the first answer is verified: it takes 50 ms, which no start should wait for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from db.errors import InvalidInput, invalid
from db.services.accounts.relying_party import RelyingParty

TIMEOUT = 300_000  # milliseconds for which a browser waits: as long as a challenge is valid
ALGORITHMS = (-8, -7, -257)  # EdDSA, ES256, RS256, the most wanted first
MAX_ANSWER = 16_384  # characters; an attestation with its certificates has a few thousand
MAX_ID = 1_023  # bytes of the id of a passkey (WebAuthn, 7.1, step 26)
MAX_PUBLIC_KEY = 1_100  # bytes: RSA of 4,096 bits, and little more, which would take long to verify
MAX_REASON = 200  # characters of what the library says
TRANSPORTS = ("usb", "nfc", "ble", "smart-card", "internal", "cable", "hybrid")
NAME = "Trellis"

# Verified where there is no passkey, so that both take the same time: a key of P-256 whose private part nobody kept.
DUMMY_PUBLIC_KEY = bytes.fromhex(
    "a501020326200121582043ebf31dde275e30e0390f8e26c331b0f520589e62edf3f8a56d982e6bbb191a225820401cad7b4d0f55f69a18c9cdafcd36a840df28d32dae4bb2db3fc717c32d6c5d"
)


class AnswerRefused(Exception):
    """The answer is not accepted; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser sends, as far as it is read before it is verified."""

    credential: dict[str, Any]
    challenge: bytes
    webauthn_id: bytes
    user_handle: bytes | None


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A passkey that a device made, verified."""

    webauthn_id: bytes
    public_key: bytes
    sign_count: int
    transports: list[str]
    is_backup_eligible: bool
    is_backed_up: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    """A challenge that a passkey signed, verified."""

    sign_count: int
    is_backup_eligible: bool
    is_backed_up: bool


def creation_options(party: RelyingParty, challenge: bytes, user: Row[Any], passkeys: Sequence[Row[Any]]) -> dict[str, Any]:
    """Return the options of a new passkey, as `PublicKeyCredential.parseCreationOptionsFromJSON` takes them.

    `user` has `id`, `username` and `full_name`; their devices with one of the `passkeys` make no second one.
    """
    return {
        "rp": {"id": party.id, "name": NAME},
        "user": {"id": encode(user.id.bytes), "name": user.username, "displayName": user.full_name or user.username},
        "challenge": encode(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in ALGORITHMS],
        "timeout": TIMEOUT,
        "excludeCredentials": descriptors(passkeys),
        "authenticatorSelection": {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"},
        "attestation": "none",
    }


def request_options(party: RelyingParty, challenge: bytes, passkeys: Sequence[Row[Any]]) -> dict[str, Any]:
    """Return the options of a sign-in, as `PublicKeyCredential.parseRequestOptionsFromJSON` takes them; without `passkeys` any may answer."""
    return {
        "rpId": party.id,
        "challenge": encode(challenge),
        "timeout": TIMEOUT,
        "allowCredentials": descriptors(passkeys),
        "userVerification": "required",
    }


def descriptors(passkeys: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [{"type": "public-key", "id": encode(passkey.webauthn_id), "transports": passkey.transports} for passkey in passkeys]


def read_answer(credential: Any) -> Answer:
    """Read an answer. Raises `InvalidInput` for what is none."""
    try:
        if len(json.dumps(credential)) > MAX_ANSWER:
            raise _malformed(f"it has more than {MAX_ANSWER:,} characters")
        response = credential["response"]
        client_data = json.loads(decode(response["clientDataJSON"]))
        user_handle = response.get("userHandle")
        challenge, webauthn_id = decode(client_data["challenge"]), decode(credential["rawId"])
        answer = Answer(credential, challenge, webauthn_id, decode(user_handle) if user_handle else None)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise _malformed("the browser's `PublicKeyCredential.toJSON()` has another form") from None
    if not 0 < len(answer.webauthn_id) <= MAX_ID:
        raise _malformed(f"the id of a passkey has 1 to {MAX_ID:,} bytes")
    if client_data.get("crossOrigin"):
        raise _malformed("the page that asked for it is embedded in a page of another origin")
    return answer


def verify_new(answer: Answer, party: RelyingParty) -> NewPasskey:
    """Verify the answer of a device that made a passkey. Raises `AnswerRefused`. It takes some milliseconds, and the first time 50."""
    from webauthn import verify_registration_response
    from webauthn.helpers.cose import COSEAlgorithmIdentifier
    from webauthn.helpers.exceptions import WebAuthnException
    from webauthn.helpers.structs import CredentialDeviceType

    try:
        verified = verify_registration_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(algorithm) for algorithm in ALGORITHMS],
        )
    except WebAuthnException as error:
        raise AnswerRefused(str(error)[:MAX_REASON]) from None
    except Exception:  # noqa: BLE001 - the library raises whatever parsers of CBOR, certificates and keys do
        raise AnswerRefused("it could not be read") from None
    if verified.credential_id != answer.webauthn_id:
        raise AnswerRefused("it is for another passkey than it says")
    if len(verified.credential_public_key) > MAX_PUBLIC_KEY:
        raise AnswerRefused(f"its public key has more than {MAX_PUBLIC_KEY:,} bytes")
    given = answer.credential["response"].get("transports")
    return NewPasskey(
        webauthn_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        transports=[transport for transport in TRANSPORTS if isinstance(given, list) and transport in given],
        is_backup_eligible=verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        is_backed_up=verified.credential_backed_up,
    )


def verify_assertion(answer: Answer, party: RelyingParty, public_key: bytes) -> Assertion:
    """Verify the answer of a passkey with this public key. Raises `AnswerRefused`. The caller compares the counter."""
    from webauthn import verify_authentication_response
    from webauthn.helpers.structs import CredentialDeviceType

    try:
        verified = verify_authentication_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except Exception as error:  # noqa: BLE001 - as above
        raise AnswerRefused(str(error)[:MAX_REASON]) from None
    is_backup_eligible = verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE
    return Assertion(verified.new_sign_count, is_backup_eligible, verified.credential_backed_up)


def encode(value: bytes) -> str:
    """Base64url without padding, as WebAuthn writes bytes in JSON."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.b64decode(f"{text}{'=' * (-len(text) % 4)}", altchars=b"-_", validate=True)


def _malformed(reason: str) -> InvalidInput:
    return invalid("credential", message=f"This is not what a passkey answers: {reason}.")
