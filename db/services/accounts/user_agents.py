"""The browser and the device that a User-Agent names, for people to recognise their sessions.

A list of substrings instead of a library: those match some thousand regular expressions, on text that anybody may send.
"""

from __future__ import annotations

from functools import lru_cache

# In this order: browsers name the ones that they descend from.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_DEVICES = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)
MAX_LENGTH = 500  # characters of a User-Agent that are kept


@lru_cache(maxsize=1_000)
def shortened(user_agent: str | None) -> str | None:
    """Return the text as it is stored: printable and of limited length; None if nothing is left."""
    return "".join(character for character in (user_agent or "")[:MAX_LENGTH] if character.isprintable()) or None


def browser(user_agent: str | None) -> str | None:
    """Return the name of the browser; for other clients, such as `curl/8.5`, the product that is named first."""
    if not user_agent:
        return None
    return _first_match(_BROWSERS, user_agent) or user_agent.partition("/")[0].partition(" ")[0][:50] or None


def device(user_agent: str | None) -> str | None:
    """Return the kind of device or operating system; None if it is not named."""
    return _first_match(_DEVICES, user_agent or "")


def _first_match(names: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for token, name in names if token in user_agent), None)
