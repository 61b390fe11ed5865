"""`trellis user` and `trellis token`: people, what they may do, and their bearer tokens. They work on the database, so the API need not run."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, AsJson, DataDir, run_async, running_settings

app = typer.Typer(help="Users, their roles and access.", no_args_is_help=True, rich_markup_mode=None)
tokens = typer.Typer(help="Bearer tokens of users.", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """The roles of `db.core.viewer`, repeated here so that `--help` need not import `db`; a test compares the two."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class Scope(StrEnum):
    """The scopes of `db.core.viewer`, repeated here for the same reason."""

    READ = "read"
    WRITE = "write"
    RUN = "run"
    TRACK = "track"
    ACCOUNT = "account"
    BILLING = "billing"
    ADMIN = "admin"


class Tier(StrEnum):
    """The tiers of `db.core.viewer`, repeated here for the same reason."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


Email = Annotated[str, typer.Argument(help="Email address of the user.", metavar="EMAIL")]
Token = Annotated[str, typer.Argument(help="What it begins with, as `trellis token list` shows it, or its id.", metavar="TOKEN")]
Limit = Annotated[int, typer.Option(help="Page size.", min=1, max=1000)]
After = Annotated[str | None, typer.Option(help="Cursor that the previous page printed.", show_default=False)]


@app.command("add")
def add(
    email: Annotated[str, typer.Argument(help="Email address, unique.")],
    username: Annotated[str, typer.Option(help="Display name.")],
    full_name: Annotated[str | None, typer.Option(help="Full name.", show_default=False)] = None,
    role: Annotated[
        Role, typer.Option(help="A viewer reads, a member also writes, an admin sees all data.", case_sensitive=False)
    ] = Role.MEMBER,
    tier: Annotated[Tier, typer.Option(help="Limits, as the settings define them for each tier.", case_sensitive=False)] = Tier.FREE,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password to sign in with, or read it from standard input.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Create a user and print their bearer token, which is shown only once. Finds a running `trellis up` by its data folder."""
    from server.commands import user_operations as operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    secret = _read_password() if password else None
    typer.echo(run_async(operations.add_user(settings, email, username, full_name, role.value, tier.value, secret)))


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="Address of who is invited; the invitation can be used with no other.", metavar="EMAIL")],
    role: Annotated[
        Role, typer.Option(help="A viewer reads, a member also writes, an admin sees all data.", case_sensitive=False)
    ] = Role.MEMBER,
    by: Annotated[
        str | None, typer.Option(help="Address of the admin in whose name. [the first admin]", metavar="EMAIL", show_default=False)
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Invite somebody to register: a mail takes them a token, valid once, for seven days."""
    from server.commands import user_operations as operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    mail_id = run_async(operations.invite(settings, email, role.value, by))
    typer.echo(f"{email} is invited. `trellis mail show {mail_id}` prints the mail, to hand over where there is no mail server.")
    if settings.registration == "closed":
        typer.echo("TRELLIS_REGISTRATION is closed here. The API has to have `invited` or `open` for the invitation to be used.", err=True)


@app.command("set-password")
def set_password(
    email: Email,
    is_hash: Annotated[
        bool, typer.Option("--hash", help="Read a hash made elsewhere, of bcrypt or Argon2id, in place of the password.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Ask for a user's new password, or read it from standard input, and end their sessions. Their bearer tokens stay valid."""
    from server.commands import user_operations as operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    run_async(operations.set_password(settings, email, _read_password("Hash" if is_hash else "Password"), is_hash=is_hash))
    typer.echo(f"{email} has a new password. Their sessions have ended.")


@app.command("list")
def list_users(
    role: Annotated[list[Role] | None, typer.Option(help="Only users of these roles.", case_sensitive=False, show_default=False)] = None,
    tier: Annotated[list[Tier] | None, typer.Option(help="Only users of these tiers.", case_sensitive=False, show_default=False)] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--disabled", help="Only users who can sign in, or only disabled ones.", show_default=False)
    ] = None,
    search: Annotated[str | None, typer.Option(help="Only users whose email address contains this.", show_default=False)] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List users by their addresses."""
    from server.commands import rendering
    from server.commands import user_operations as operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    users_filter = operations.UserOptions([each.value for each in role or ()], [each.value for each in tier or ()], active, search)
    page = run_async(operations.list_users(settings, users_filter, limit, after))
    rendering.print_users(page.rows, as_json=as_json)
    _print_next(page.next_cursor)


@app.command()
def show(email: Email, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show a user with what they own and store, and their last hundred tokens."""
    from server.commands import rendering
    from server.commands import user_operations as operations

    details = run_async(operations.user_details(running_settings(data_dir, WITHOUT_OBJECT_STORE), email))
    rendering.print_user(details.user, details.counts, details.storage, details.tokens, as_json=as_json)


@app.command("role")
def set_role(
    email: Email,
    role: Annotated[Role, typer.Argument(help="A viewer reads, a member also writes, an admin sees all data.", case_sensitive=False)],
    data_dir: DataDir = None,
) -> None:
    """Change a user's role. Open streams and websockets have it within seconds."""
    from server.commands import user_operations as operations

    run_async(operations.set_role(running_settings(data_dir, WITHOUT_OBJECT_STORE), email, role.value))
    typer.echo(f"{email} has the role {role.name}.")


@app.command("tier")
def set_tier(
    email: Email,
    tier: Annotated[Tier, typer.Argument(help="Limits, as the settings define them for each tier.", case_sensitive=False)],
    data_dir: DataDir = None,
) -> None:
    """Change a user's tier, which sets their limits."""
    from server.commands import user_operations as operations

    run_async(operations.set_tier(running_settings(data_dir, WITHOUT_OBJECT_STORE), email, tier.value))
    typer.echo(f"{email} has the tier {tier.name}.")


@app.command("quota")
def set_quota(
    email: Email,
    quota: Annotated[
        str, typer.Argument(help="Bytes, such as `500000000` or `20GiB`; `0` for none; `tier` for what the tier has.", metavar="BYTES")
    ],
    data_dir: DataDir = None,
) -> None:
    """Set how much a user may store, instead of what their tier has. What is stored stays; more is refused."""
    from server.commands import user_operations as operations

    quota_bytes = run_async(operations.set_quota(running_settings(data_dir, WITHOUT_OBJECT_STORE), email, quota))
    typer.echo(f"{email} may store {'what the tier allows' if quota_bytes is None else f'{quota_bytes} bytes'}.")


@app.command()
def disable(email: Email, data_dir: DataDir = None) -> None:
    """Refuse a user's tokens until `enable`, and close their streams and websockets. Their data and their jobs stay."""
    from server.commands import user_operations as operations

    run_async(operations.disable(running_settings(data_dir, WITHOUT_OBJECT_STORE), email))
    typer.echo(f"{email} is disabled. `trellis user enable {email}` undoes it.")


@app.command()
def enable(email: Email, data_dir: DataDir = None) -> None:
    """Accept a disabled user's tokens again."""
    from server.commands import user_operations as operations

    run_async(operations.enable(running_settings(data_dir, WITHOUT_OBJECT_STORE), email))
    typer.echo(f"{email} is enabled.")


@app.command()
def delete(email: Email, data_dir: DataDir = None) -> None:
    """Delete a user's account with all that it owns. Only `restore` brings it back, for 30 days unless the settings say otherwise."""
    from server.commands import user_operations as operations

    run_async(operations.delete(running_settings(data_dir, WITHOUT_OBJECT_STORE), email))
    typer.echo(f"{email} is deleted. `trellis user restore {email}` undoes it, until the account is purged.")


@app.command()
def restore(
    user: Annotated[str, typer.Argument(help="The email address or the username that the account had.", metavar="USER")],
    username: Annotated[
        str | None, typer.Option(help="Another username than it had, as when that was taken meanwhile.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Restore the account that was deleted last with this address or username, by whomever, with all that it owned. Its tokens stay revoked."""
    from server.commands import user_operations as operations

    run_async(operations.restore(running_settings(data_dir, WITHOUT_OBJECT_STORE), user, username))
    typer.echo(f"{user} is restored. Their tokens stay revoked: `trellis user token` creates a new one.")


@app.command("reset-totp")
def reset_totp(
    user: Annotated[str, typer.Argument(help="Email address or username.", metavar="USER")],
    data_dir: DataDir = None,
) -> None:
    """Remove the app for codes and the passkeys of a user who lost their devices, and end their sessions. A mail tells them; check first that it
    is them who asks.
    """
    from server.commands import user_operations as operations

    run_async(operations.reset_totp(running_settings(data_dir, WITHOUT_OBJECT_STORE), user))
    typer.echo(f"{user} signs in with the password alone. A mail tells them.")


@app.command("token")
def add_token(
    email: Email,
    name: Annotated[str, typer.Option(help="What the token is for, shown in lists.")] = "by the command line",
    expires: Annotated[
        str | None, typer.Option(help="Time for which the token is valid, such as `12h` or `90d`. [for ever]", show_default=False)
    ] = None,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What the token may be used for; repeat it for several. [all that the role allows]",
            case_sensitive=False,
            show_default=False,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(help="Points a minute of the token, within those of the user. [those of the user]", min=1, show_default=False),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create a further bearer token and print it; it is shown only once."""
    from server.commands import user_operations as operations

    scopes = None if not scope else [each.value for each in scope]
    typer.echo(run_async(operations.add_token(running_settings(data_dir, WITHOUT_OBJECT_STORE), email, name, expires, scopes, points)))


@app.command("revoke")
def revoke_all(email: Email, data_dir: DataDir = None) -> None:
    """Revoke all bearer tokens of a user and end their sessions. Their streams and websockets are closed within seconds."""
    from server.commands import user_operations as operations

    count = run_async(operations.revoke_tokens(running_settings(data_dir, WITHOUT_OBJECT_STORE), email))
    typer.echo(
        f"{count} token{'' if count == 1 else 's'} of {email} revoked, sessions included. `trellis user token {email}` creates a new one."
    )


@tokens.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option(help="Only those of the user with this email address.", show_default=False)] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List tokens, newest first: what they begin with and may be used for, when they expire and were last used. A token itself is not stored."""
    from server.commands import rendering
    from server.commands import user_operations as operations

    page = run_async(operations.list_tokens(running_settings(data_dir, WITHOUT_OBJECT_STORE), user, limit, after))
    rendering.print_tokens(page.rows, as_json=as_json)
    _print_next(page.next_cursor)


@tokens.command("rotate")
def rotate(
    token: Token,
    overlap: Annotated[str, typer.Option(help="Time for which the old token stays valid, such as `30m` or `1d`.")] = "1d",
    data_dir: DataDir = None,
) -> None:
    """Create a token that replaces another, with its name, scopes and points, and print it. Both are valid for a time; then the old one ends."""
    from server.commands import user_operations as operations

    typer.echo(run_async(operations.rotate_token(running_settings(data_dir, WITHOUT_OBJECT_STORE), token, overlap)))


@tokens.command("revoke")
def revoke_one(
    token: Token,
    data_dir: DataDir = None,
) -> None:
    """Revoke one token. Streams and websockets opened with it are closed within seconds; other tokens stay valid."""
    from server.commands import user_operations as operations

    email = run_async(operations.revoke_token(running_settings(data_dir, WITHOUT_OBJECT_STORE), token))
    typer.echo(f"The token {token} of {email} is revoked.")


def _read_password(name: str = "Password") -> str:
    """Read a secret without showing it, or a line of standard input: other users of the machine can read arguments of a command."""
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True, confirmation_prompt=name == "Password"))
    return sys.stdin.readline().rstrip("\r\n")


def _print_next(cursor: str | None) -> None:
    if cursor:
        typer.echo(f"There are more. For the next page add: --after {cursor}", err=True)
