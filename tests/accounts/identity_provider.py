"""A provider of identities on this machine, which signs ID tokens with keys of its own and takes back what it is told to; and browsers that visit it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import httpx
from joserfc import jws
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.client import PASSWORD, Client

CLIENT_ID, CLIENT_SECRET = "trellis-of-the-tests", "a secret of the tests, with a % and a +"
HEADERS = {"graphql-preflight": "1"}
IDENTITIES = "oauthIdentities { provider subject email }"


@cache
def key(name: str = "first") -> RSAKey:
    """A key to sign with; made when a test needs it, since that takes a while."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@dataclass
class Realm:
    """An issuer with one person, who always agrees. `tamper` changes the claims of its next ID tokens, `sign` how they are signed."""

    issuer: str
    person: dict[str, Any]
    key: RSAKey = field(default_factory=key)
    tamper: Callable[[dict[str, Any]], None] = lambda _: None
    sign: Callable[[dict[str, Any]], str] | None = None
    in_user_info: tuple[str, ...] = ()
    user_info_subject: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    auth_methods: tuple[str, ...] = ("client_secret_basic", "client_secret_post")
    response: dict[str, str] = field(default_factory=dict[str, str])
    codes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    key_requests: int = 0

    def document(self) -> dict[str, Any]:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks", "userinfo_endpoint": "userinfo"}
        endpoints = {name: f"{self.issuer}/{path}" for name, path in names.items()}
        return {"issuer": self.issuer, **endpoints, "token_endpoint_auth_methods_supported": list(self.auth_methods), **self.metadata}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the person is sent back to, with a code."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer, **self.response})}"

    def exchange(self, form: dict[str, str]) -> dict[str, str] | None:
        """What was asked for with a code, which is valid once and for who has the verifier."""
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return None
        return asked

    def id_token(self, asked: dict[str, str], access_token: str) -> str:
        now = int(time.time())
        half = base64.urlsafe_b64encode(hashlib.sha256(access_token.encode()).digest()[:16]).decode().rstrip("=")
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"], "at_hash": half}
        claims |= {name: value for name, value in self.person.items() if name not in self.in_user_info}
        self.tamper(claims)
        return self.sign(claims) if self.sign is not None else signed(claims, self.key)


def signed(claims: dict[str, Any], key: Any, **header: Any) -> str:
    """An ID token that says this."""
    header = {"alg": "RS256", "kid": key.kid, **header}
    return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[header["alg"]])


class IdentityProvider:
    """The provider, with a realm for each test. It speaks OpenID Connect, and as GitHub Enterprise does."""

    def __init__(self) -> None:
        self.url = ""
        self.realms: dict[str, Realm] = {}
        openid = {
            ".well-known/openid-configuration": self.document,
            "jwks": self.jwks,
            "authorize": self.authorize,
            "userinfo": self.user_info,
        }
        github = {"login/oauth/authorize": self.authorize, "api/v3/user": self.github_user, "api/v3/user/emails": self.github_emails}
        routes = [Route(f"/{{realm}}/{path}", endpoint) for path, endpoint in {**openid, **github}.items()]
        routes += [Route(f"/{{realm}}/{path}", self.token, methods=["POST"]) for path in ("token", "login/oauth/access_token")]
        self.app = Starlette(routes=routes)

    def add_realm(self, **person: Any) -> Realm:
        name = f"realm-{len(self.realms)}"
        self.realms[name] = Realm(f"{self.url}/{name}", person)
        return self.realms[name]

    def _realm(self, request: Request) -> Realm:
        return self.realms[request.path_params["realm"]]

    async def document(self, request: Request) -> Response:
        return JSONResponse(self._realm(request).document())

    async def jwks(self, request: Request) -> Response:
        realm = self._realm(request)
        realm.key_requests += 1
        future = {"kty": "of the future", "kid": "unknown"}
        return JSONResponse({"keys": [future, realm.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        return RedirectResponse(self._realm(request).authorize(dict(request.query_params)), 302)

    async def token(self, request: Request) -> Response:
        realm = self._realm(request)
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if not _is_client(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        asked = realm.exchange(form)
        if asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        access_token = secrets.token_urlsafe(16)
        tokens = {"access_token": access_token, "token_type": "Bearer"}
        if "openid" in asked["scope"].split():
            tokens["id_token"] = realm.id_token(asked, access_token)
        return JSONResponse(tokens)

    async def user_info(self, request: Request) -> Response:
        realm = self._realm(request)
        return JSONResponse({**realm.person, "sub": realm.user_info_subject or realm.person["sub"]})

    async def github_user(self, request: Request) -> Response:
        assert request.headers["authorization"].startswith("Bearer ")
        return JSONResponse({name: self._realm(request).person.get(name) for name in ("id", "login", "name")})

    async def github_emails(self, request: Request) -> Response:
        return JSONResponse(self._realm(request).person["emails"])


def _is_client(request: Request, form: dict[str, str]) -> bool:
    given = form.get("client_id", ""), form.get("client_secret", "")
    if "authorization" in request.headers:
        text = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        given = unquote(text.partition(":")[0]), unquote(text.partition(":")[2])
    return given == (CLIENT_ID, CLIENT_SECRET)


class Visitor:
    """A browser: it keeps cookies, sends them with each request, and says that its navigations begin on our own page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=30)

    async def visit(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers={"sec-fetch-site": "same-origin", **headers})

    async def start(self, provider: str = "one", **query: str) -> str:
        """Begin a sign-in; return the address at the provider."""
        answer = await self.visit(f"/auth/{provider}/start?{urlencode(query)}")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def consent(self, address: str) -> str:
        """Let the provider send the browser back; return where to, as a path of Trellis."""
        async with httpx.AsyncClient() as elsewhere:
            answer = await elsewhere.get(address)
        assert answer.status_code == 302, answer.text
        back = urlsplit(answer.headers["location"])
        assert f"{back.scheme}://{back.netloc}" == self.url
        return f"{back.path}?{back.query}"

    async def come_back(self, path: str, **headers: str) -> httpx.Response:
        """Follow the provider's redirect, as a navigation that another site caused."""
        return await self.visit(path, **{"sec-fetch-site": "cross-site", **headers})

    async def sign_in(self, provider: str = "one", **query: str) -> httpx.Response:
        """The whole way; return the last answer."""
        return await self.come_back(await self.consent(await self.start(provider, **query)))

    async def login(self, name: str) -> None:
        document = "mutation($input: LoginInput!) { login(input: $input) { __typename } }"
        answer = await self.ask(document, input={"login": name, "password": PASSWORD, "transport": "COOKIE"})
        assert answer == {"data": {"login": {"__typename": "LoginPayload"}}}

    async def ask(self, document: str, **variables: Any) -> Any:
        body = {"query": document, "variables": variables}
        return (await self.http.post("/graphql", json=body, headers={**HEADERS, "origin": self.url})).json()

    async def one(self, document: str, **variables: Any) -> Any:
        (value,) = (await self.ask(document, **variables))["data"].values()
        return value

    async def username(self) -> str | None:
        """Who is signed in; None for nobody."""
        answer = await self.ask("{ viewer { username } }")
        return answer["data"]["viewer"]["username"] if answer.get("data") else None


def told(answer: httpx.Response) -> str:
    """What a refusal tells the person."""
    assert answer.status_code >= 400, answer.headers
    (text,) = re.findall("<p>([^<]*)</p>", answer.text)
    return html.unescape(text)


async def identities(client: Client | Visitor) -> list[dict[str, Any]]:
    return (await client.one(f"{{ viewer {{ {IDENTITIES} }} }}"))["oauthIdentities"]
