"""Lists that come in pages (distribution-spec 1.1: the ``Link`` header)."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from cored.engine.registry.answers import Answer
from cored.engine.registry.session import Call, Session
from cored.errors import Unavailable

__all__ = ["pages"]

_NEXT = re.compile(r'<([^>]*)>\s*(?:;[^,]*)*;\s*rel="?next"?', re.IGNORECASE)
_MOST = 10_000


async def pages(session: Session, path: str) -> list[Answer]:
    """An answer and those that its ``Link`` leads to, all from the host that gave the first."""
    answers = [await session.send(Call("GET", path, what=f"repository {session.reference.path}"))]
    seen: set[str] = set()
    while link := _NEXT.search(answers[-1].headers.get("Link", "")):
        before = answers[-1]
        url = urljoin(before.url, link[1])
        # a page elsewhere would be asked for with what is known here
        url = (
            urlsplit(url)
            ._replace(scheme=urlsplit(before.url).scheme, netloc=urlsplit(before.url).netloc)
            .geturl()
        )
        if url in seen or len(seen) > _MOST:
            raise Unavailable(f"registry {before.host.name}: its list has no end")
        seen.add(url)
        answers.append(await session.send(Call("GET", url), at=before.host))
    return answers
