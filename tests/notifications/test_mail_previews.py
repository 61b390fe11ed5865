"""Each mail can be looked at in development, and nowhere else."""

from __future__ import annotations

import re

import pytest

from db.services.mail.previews import previews
from db.services.notifications import OF_ACCOUNTS
from db.settings import StateSettings, state_settings
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType
from server.settings import server_settings
from tests.client import Client

NAMES = {template.value for template in EmailTemplate if template is not EmailTemplate.EVENT} | {
    f"event-{event_type.value}" for event_type in set(EventType) - OF_ACCOUNTS
}


def test_every_template_and_event_has_a_preview_with_names_escaped(settings: StateSettings) -> None:
    chosen = settings.model_copy(update={"public_url": "https://trellis.example.org"})
    shown = previews(chosen)
    assert set(shown) == NAMES
    for name, mail in shown.items():
        is_of_account = name in {template.value for template in EmailTemplate} and not name.endswith("digest")
        assert ("List-Unsubscribe" in mail.headers) is not is_of_account, name
        assert "<wine>" not in mail.html, name
        links = set(re.findall(r'href="([^"]+)"', mail.html))
        assert all(link.startswith("https://trellis.example.org") for link in links), name
        assert "trellis.example.org" in mail.text, name
        assert not re.search(r"\n{4,}|[ \t]+\n", mail.text), (name, mail.text)


def test_a_name_that_looks_like_an_address_is_no_link_in_a_mail_about_an_account(settings: StateSettings) -> None:
    from types import SimpleNamespace

    from db.services.mail.composing import account_mail
    from db.services.mail.signing_in import password_changed_text

    paragraphs = password_changed_text([], [], [SimpleNamespace(name="https://evil.example.org/x")])
    chosen = settings.model_copy(update={"public_url": "https://trellis.example.org"})
    mail = account_mail(chosen, EmailTemplate.PASSWORD_CHANGED, "ada@example.org", "Hello ada,", paragraphs)
    assert "https://evil.example.org/x" in mail.html
    assert 'href="https://evil' not in mail.html


async def test_previews_are_pages_where_they_are_switched_on(ada: Client, anonymous: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/mail-previews", "/mail-previews/password_reset.html"):
        assert (await anonymous.http.get(path)).status_code == 404
    monkeypatch.setattr(server_settings(), "mail_previews", True)
    page = await anonymous.http.get("/mail-previews")
    assert set(re.findall(r'href="/mail-previews/([^"]+)\.html"', page.text)) == NAMES
    mail = previews(state_settings())["daily_digest"]
    html = await anonymous.http.get("/mail-previews/daily_digest.html")
    assert "default-src 'none'" in html.headers["content-security-policy"]
    assert html.text.count("<li") == mail.html.count("<li") > 10
    assert (await anonymous.http.get("/mail-previews/daily_digest.txt")).text.startswith("Hello ada,")
    for missing in ("none.html", "daily_digest.pdf", "daily_digest"):
        assert (await anonymous.http.get(f"/mail-previews/{missing}")).status_code == 404
