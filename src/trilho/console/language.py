"""Which language a page is asked for in: by `?lang=`, or else by what the browser prefers."""

from __future__ import annotations

from trilho.watch.wording import Language


def language_of(asked: str | None, accepted: str) -> Language:
    """Give Brazilian Portuguese where it is asked for, or preferred to English; else English.

    >>> language_of(None, "pt-BR,pt;q=0.9,en;q=0.8"), language_of("en", "pt-BR"), language_of(None, "de, en;q=0.5")
    ('pt-BR', 'en', 'en')
    """
    if asked:
        return "pt-BR" if asked.lower().startswith("pt") else "en"
    best = {"pt": 0.0, "en": 0.0}
    for part in accepted.split(",")[:20]:
        name, _, weight = part.strip().partition(";q=")
        tongue = name.lower()[:2]
        if tongue in best:
            best[tongue] = max(best[tongue], _weight(weight))
    return "pt-BR" if best["pt"] > best["en"] else "en"


def _weight(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0
