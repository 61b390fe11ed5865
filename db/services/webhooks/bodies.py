"""What is sent: of the generic format a type, a time, ids and names; of a chat's format the title and the body of a notification.

Names are those of users, so they are escaped for each format: none may mention, link or format.
Formats: https://api.slack.com/reference/surfaces/formatting, https://discord.com/developers/docs/resources/webhook,
https://adaptivecards.io/explorer (Teams).
"""

from __future__ import annotations

import re
from typing import Any

from db.core.audit import ref
from db.services.notifications.texts import body_of as text_of
from db.services.notifications.texts import title_of
from db.tables.webhooks import WebhookProvider

MAX_TEXT = 1_500  # characters; Discord takes 2,000
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>:@<])")


def body_of(row: Any) -> dict[str, Any]:
    """The JSON body of a delivery, whose row has `provider` and `owner_id` besides the columns of the delivery."""
    title, text = title_of(row.event_type, row.name, row.data), text_of(row.event_type, row.subject_id, row.data)
    if row.is_test:
        title = f"Test: {title}"
    match row.provider:
        case WebhookProvider.SLACK:
            return {"text": f"*{_slack(title)}*\n{_slack(text)}"[:MAX_TEXT]}
        case WebhookProvider.DISCORD:
            return {"content": f"**{_markdown(title)}**\n{_markdown(text)}"[:MAX_TEXT], "allowed_mentions": {"parse": []}}
        case WebhookProvider.TEAMS:
            return _teams(_markdown(title)[:MAX_TEXT], _markdown(text))
        case _:
            data = {"id": row.subject_id, "name": row.name, "accountId": ref("user", row.owner_id), "title": title, "isTest": row.is_test}
            return {"type": row.event_type.name, "timestamp": row.created_at.isoformat(), "data": data}


def _slack(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*_~`])", "\u200b\\1", text)  # Slack has no escape for these; after a space of no width they format nothing


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _teams(title: str, text: str) -> dict[str, Any]:
    blocks = [
        {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": text, "wrap": True},
    ]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
    return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}
