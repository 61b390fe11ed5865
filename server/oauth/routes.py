"""`/auth/{provider}/start` sends a browser to a provider; `/auth/{provider}/callback` is where it comes back, and is signed in or told why not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from db.core.audit import AuditOrigin, Origin, acting
from db.core.networks import ClientInfo
from db.errors import AddressTaken, Forbidden, InvalidInput, TooManyAttempts, Unavailable, UsernameTaken, WrongState
from db.services.accounts import FactorRequired, FlowSecret, ProviderSignIns
from db.services.accounts.oauth_flows import LIFETIME
from graph.core.session_cookie import SessionCookie
from server.auth import InvalidToken, authenticate
from server.oauth.pages import problem_page
from server.observability import record_rejection
from server.protocol.session_cookie import NO_TLS, SECURE_NAME, CookieSite

if TYPE_CHECKING:
    from db.core.viewer import Viewer
    from db.settings import StateSettings
    from server.oauth.provider import Provider
    from server.oauth.providers import Providers

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TIMEOUT = 10.0  # seconds to look up a token
HOME = "/graphql"
PAGES = frozenset({HOME, "/account"})  # that ask for a code
MAX_CODE = 4_096  # characters of what a provider returns with the browser
# A path of our own: `//host` and `/\host` are addresses of other hosts, and a fragment is ours to add.
_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9._~/?&=%+@:,;-]{0,500}")
_ERROR = re.compile(r"[a-z_]{1,50}")
_NO_FLOW = (
    "This sign-in did not begin in this browser, was completed before, or took more than 10 minutes. If you did not begin one, somebody may have"
    " sent you a link that signs you in to an account of theirs. Else begin again."
)


@dataclass
class Refusal(Exception):
    """Why nobody was signed in and nothing linked, in words for who sits in front of it."""

    message: str
    status: int = 403
    code: str = "FORBIDDEN"

    def __str__(self) -> str:
        return self.message


def routes(state: StateSettings) -> list[Route]:
    """GET alone: a browser is sent here by a link, and by the provider."""
    endpoints = {"start": _start, "callback": _callback}

    def endpoint(name: str) -> Route:
        async def respond(request: Request) -> Response:
            request.state.request_id = uuid4().hex
            visit = _Visit.of(request, state)
            origin = Origin(AuditOrigin.API, visit.client.address, request.state.request_id)
            try:
                with acting(origin):
                    return await endpoints[name](visit)
            except Refusal as error:
                return visit.refused(error)
            except TooManyAttempts as error:
                return visit.refused(Refusal(error.message, 429, "RATE_LIMITED"))
            except Unavailable as error:
                return visit.refused(Refusal(error.message, 503, "UNAVAILABLE"))

        return Route(f"/auth/{{provider}}/{name}", respond, methods=["GET"])

    return [endpoint(name) for name in endpoints]


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request of a browser to one of the routes."""

    request: Request
    site: CookieSite
    public_url: str
    client: ClientInfo

    @classmethod
    def of(cls, request: Request, state: StateSettings) -> _Visit:
        site = CookieSite.of(request.scope, request.headers, state.public_url)
        return cls(
            request,
            site,
            state.public_url,
            ClientInfo(request.client.host if request.client else None, request.headers.get("user-agent")),
        )

    @property
    def sign_ins(self) -> ProviderSignIns:
        return self.request.app.state.provider_sign_ins

    @property
    def provider(self) -> Provider:
        providers: Providers = self.request.app.state.providers
        name: str = self.request.path_params["provider"]
        found = providers.find(name)
        if found is None:
            raise Refusal("There is no such provider here. The page for signing in shows those that there are.", 404, "NOT_FOUND")
        return found

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends the browser back to: never what a request says, except on this machine."""
        path = f"/auth/{self.request.path_params['provider']}/callback"
        if self.site.name is None:
            raise Refusal(NO_TLS)
        if not self.public_url:
            if self.site.name == SECURE_NAME:
                raise Refusal(
                    "Signing in by a provider needs TRELLIS_PUBLIC_URL: tell whoever runs this Trellis.", 500, "INTERNAL_SERVER_ERROR"
                )
            return f"{self.site.origin}{path}"
        public = urlsplit(self.public_url)
        if self.site.origin != f"{public.scheme}://{public.netloc}".lower():
            raise Refusal(f"Signing in by a provider works at {self.public_url} alone: open Trellis there.")
        return f"{self.public_url.rstrip('/')}{path}"

    @property
    def cookie_name(self) -> str:
        """Of the cookie that has the secret of a sign-in; named as the one of the session is."""
        assert self.site.name is not None
        return f"{self.site.name}-oauth"

    @property
    def secret(self) -> FlowSecret | None:
        if self.site.name is None:
            return None
        text = cookie_parser("; ".join(self.request.headers.getlist("cookie"))).get(self.cookie_name)
        return FlowSecret(text) if text else None

    def keep(self, response: Response, secret: FlowSecret | None) -> None:
        """Have the browser keep the secret; without one, forget it."""
        secure = "; Secure" if self.site.name == SECURE_NAME else ""
        value, age = ("", 0) if secret is None else (secret.text, int(LIFETIME.total_seconds()))
        response.headers.append("set-cookie", f"{self.cookie_name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")

    async def viewer(self) -> Viewer:
        """Who is signed in by the session cookie. Raises `Refusal` without one."""
        state = self.request.app.state
        try:
            viewer = await authenticate(
                state.feed.viewers, state.token_usage, self.site.token(self.request.headers), TIMEOUT, is_long_lived=True
            )
        except InvalidToken:
            viewer = None
        if viewer is None or not viewer.is_session:
            raise Refusal(
                "Only who is signed in can link an identity to their account. Sign in first, with your password.", 401, "UNAUTHENTICATED"
            )
        return viewer

    def refused(self, error: Refusal) -> Response:
        request_id: str = self.request.state.request_id
        record_rejection(request_id, error.status, error.code)
        return problem_page(error.message, error.status, request_id)


async def _start(visit: _Visit) -> Response:
    """Send the browser to the provider. `link=1` links an identity, `restore=1` restores the deleted account of one, named `username` if given;
    `next` is where it ends, `invitation` the token of one.
    """
    from server.oauth.http import ProviderError

    provider, redirect_uri, query = visit.provider, visit.redirect_uri, visit.request.query_params
    next_path = query.get("next", HOME)
    if _PATH.fullmatch(next_path) is None:
        next_path = HOME
    viewer, restores = None, query.get("restore") == "1"
    if restores and visit.request.headers.get("sec-fetch-site") != "same-origin":
        raise Refusal("Restoring an account begins on a page of this Trellis. Go back there and try again, with a browser of these days.")
    if query.get("link") == "1":
        # Another site must not begin it: with the browser signed in at the provider as somebody else, that identity would be linked.
        # A link in a mail is no page of ours either: browsers send `none` for it, as for an address that is typed.
        if visit.request.headers.get("sec-fetch-site") != "same-origin":
            raise Refusal(
                "Linking an identity begins on a page of this Trellis. Go back there and try again, with a browser of these days."
            )
        viewer = await visit.viewer()
    try:
        arguments = provider.name, next_path, visit.client, viewer, query.get("invitation")
        secret = await visit.sign_ins.begin(*arguments, restores=restores, username=query.get("username") if restores else None)
    except (WrongState, Forbidden) as error:
        raise Refusal(error.message) from None
    except InvalidInput as error:
        raise Refusal(error.issues[0].message) from None
    try:
        url = await provider.authorization_url(secret, redirect_uri)
    except ProviderError as error:
        raise _unusable(visit, provider, error) from None
    response = _redirect(visit, url)
    visit.keep(response, secret)
    return response


async def _callback(visit: _Visit) -> Response:
    """Sign the browser in that the provider sent back, or link its identity."""
    from server.oauth.http import ProviderError

    provider, redirect_uri, query = visit.provider, visit.redirect_uri, visit.request.query_params
    secret, state, code = visit.secret, query.get("state", ""), query.get("code", "")
    if secret is None or len(state) > MAX_CODE or not secret.has_state(state):
        raise Refusal(_NO_FLOW)
    flow = await visit.sign_ins.come_back(secret)
    if flow is None or flow.provider != provider.name:
        raise Refusal(_NO_FLOW)
    try:
        await provider.check_response_issuer(query.get("iss"))
        if "error" in query or not 0 < len(code) <= MAX_CODE:
            raise _declined(provider, query.get("error", ""))
        identity = await provider.identify(code, secret, redirect_uri)
    except ProviderError as error:
        raise _unusable(visit, provider, error) from None
    try:
        if flow.session_id is not None:
            viewer = await visit.viewer()
            if viewer.key_id != flow.session_id:
                raise Refusal("Somebody else is signed in now than when this began, so nothing was linked. Begin again.")
            await visit.sign_ins.link(viewer, identity, visit.client)
            response = _redirect(visit, flow.next_path)
        else:
            result = await visit.sign_ins.sign_in(identity, flow, visit.client)
            if isinstance(result, FactorRequired):
                page = flow.next_path if urlsplit(flow.next_path).path in PAGES else HOME
                response = _redirect(visit, f"{page}#challenge={result.challenge}")
            else:
                response = _redirect(visit, flow.next_path)
                header = visit.site.set_cookie(SessionCookie(token=result.token, lifetime=visit.sign_ins.session_lifetime))
                assert header is not None, "`redirect_uri` refuses a site without cookies"
                response.headers.append("set-cookie", header)
    except (WrongState, Forbidden, AddressTaken) as error:
        raise Refusal(error.message) from None
    except UsernameTaken as error:
        raise Refusal(
            f"{error.message} Restore the account with another username: open the page for signing in, and begin again there."
        ) from None
    visit.keep(response, None)
    return response


def _redirect(visit: _Visit, url: str) -> Response:
    headers = {"Cache-Control": "no-store", "X-Request-Id": visit.request.state.request_id}
    return RedirectResponse(url, 303, headers)


def _declined(provider: Provider, error: str) -> Refusal:
    reason = f" It says: {error}." if _ERROR.fullmatch(error) else ""
    return Refusal(f"{provider.name} did not let you sign in, or you declined.{reason} Begin again, or sign in in another way.")


def _unusable(visit: _Visit, provider: Provider, error: Exception) -> Refusal:
    """What the provider said is for the operator, not for the page: others may have made it say that."""
    request_id: str = visit.request.state.request_id
    log.warning("sign_in_provider_failed", provider=provider.name, request_id=request_id, error=str(error)[:1_000])
    message = f"{provider.name} could not be asked who you are, or gave an answer that cannot be trusted. Begin again; if it goes on, tell whoever runs"
    return Refusal(f"{message} this Trellis: request {request_id}.", 502, "UNAVAILABLE")
