"""Adding and removing the second factor: an app for codes, and backup codes."""

from typing import Annotated

import strawberry

from graph.accounts.inputs import ConfirmTotpInput, DisableTotpInput, EnrollTotpInput, RegenerateBackupCodesInput
from graph.accounts.passwords import ATTEMPT
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, InvalidInput, WrongState

_BACKUP_CODES = "Ten codes, each of which replaces the app's once. They are shown only here: keep them where your device is not."


@strawberry.type(
    description="A new secret for an app. It counts once `confirmTotp` has seen a code of it; one that you have counts until then."
)
class EnrollTotpPayload:
    secret: str = strawberry.field(description="The secret in base32, to be typed into the app. It is shown only here.")
    uri: str = strawberry.field(description="The same for an app that opens links: `otpauth://totp/…`.")
    qr_svg: str = strawberry.field(description="The same for an app that has a camera: an SVG image of the QR code of `uri`.")


@strawberry.type(description="Signing in takes a code from now on. Your other sessions have ended; your API keys stay valid.")
class ConfirmTotpPayload:
    backup_codes: list[str] = strawberry.field(metadata=costs(entries=1), description=_BACKUP_CODES)


@strawberry.type(description="Signing in takes only the password from now on.")
class DisableTotpPayload:
    is_disabled: bool = strawberry.field(description="Always true.")


@strawberry.type(description="The backup codes are new ones; those from before are not accepted any more.")
class RegenerateBackupCodesPayload:
    backup_codes: list[str] = strawberry.field(metadata=costs(entries=1), description=_BACKUP_CODES)


EnrollTotpResult = Annotated[
    EnrollTotpPayload | InvalidCredentials | WrongState,
    strawberry.union("EnrollTotpResult", description="The possible results of `enrollTotp`."),
]
ConfirmTotpResult = Annotated[
    ConfirmTotpPayload | InvalidCredentials | InvalidInput | WrongState,
    strawberry.union("ConfirmTotpResult", description="The possible results of `confirmTotp`."),
]
DisableTotpResult = Annotated[
    DisableTotpPayload | InvalidCredentials | InvalidInput | WrongState,
    strawberry.union("DisableTotpResult", description="The possible results of `disableTotp`."),
]
RegenerateBackupCodesResult = Annotated[
    RegenerateBackupCodesPayload | InvalidCredentials | InvalidInput | WrongState,
    strawberry.union("RegenerateBackupCodesResult", description="The possible results of `regenerateBackupCodes`."),
]


@strawberry.type
class SecondFactor:
    @mutation(
        scope=Scope.SESSION,
        description="Begin to add an app for codes (TOTP), or to replace it. Takes a session that began less than 10 minutes ago; with an older one,"
        " sign in again.",
        metadata=costs(ATTEMPT),
    )
    async def enroll_totp(
        self, info: Info, input: Annotated[EnrollTotpInput, strawberry.argument(description="Your password.")]
    ) -> EnrollTotpResult:
        context = info.context
        assert context.second_factors is not None
        enrollment = await context.second_factors.enroll(context.signed_in_viewer, input.password, context.client)
        return EnrollTotpPayload(secret=enrollment.secret, uri=enrollment.uri, qr_svg=enrollment.qr_svg)

    @mutation(
        scope=Scope.SESSION,
        description="Show that the app has the secret of `enrollTotp`, within 10 minutes. The app counts from then on, and you get new backup codes.",
        metadata=costs(ATTEMPT),
    )
    async def confirm_totp(
        self, info: Info, input: Annotated[ConfirmTotpInput, strawberry.argument(description="A code.")]
    ) -> ConfirmTotpResult:
        context = info.context
        assert context.second_factors is not None
        backup_codes = await context.second_factors.confirm(context.signed_in_viewer, input.code, context.client)
        return ConfirmTotpPayload(backup_codes=backup_codes)

    @mutation(
        scope=Scope.SESSION,
        description="Remove the app for codes and the backup codes. If both are lost, an operator can: `trellis user reset-totp`.",
        metadata=costs(ATTEMPT),
    )
    async def disable_totp(
        self, info: Info, input: Annotated[DisableTotpInput, strawberry.argument(description="Your password and a code.")]
    ) -> DisableTotpResult:
        context = info.context
        assert context.second_factors is not None
        await context.second_factors.disable(context.signed_in_viewer, input.password, input.code, context.client)
        return DisableTotpPayload(is_disabled=True)

    @mutation(
        scope=Scope.SESSION,
        description="Replace your backup codes, for when few are left or somebody may have seen them.",
        metadata=costs(ATTEMPT),
    )
    async def regenerate_backup_codes(
        self, info: Info, input: Annotated[RegenerateBackupCodesInput, strawberry.argument(description="Your password and a code.")]
    ) -> RegenerateBackupCodesResult:
        context = info.context
        assert context.second_factors is not None
        backup_codes = await context.second_factors.regenerate_backup_codes(
            context.signed_in_viewer, input.password, input.code, context.client
        )
        return RegenerateBackupCodesPayload(backup_codes=backup_codes)
