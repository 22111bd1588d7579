"""What a kubelet may connect for: a token for each request, good once, and for a minute."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from cored.errors import NotFound, ResourceExhausted
from cored_service_cri.streaming.channels import Connection

__all__ = ["Session", "Tokens"]

_SECONDS = 60.0
_MOST = 1000

Session = Callable[[Connection], Awaitable[None]]
"""What is to be done with the connection that a token opens."""


class Tokens:
    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Session, asyncio.TimerHandle]] = {}

    def issue(self, session: Session) -> str:
        """A token for ``session``. ResourceExhausted while too many are not used."""
        if len(self._waiting) >= _MOST:
            raise ResourceExhausted("streams: too many were asked for and never opened")
        token = secrets.token_urlsafe(16)
        loop = asyncio.get_running_loop()
        late = loop.call_later(_SECONDS, self._waiting.pop, token, None)
        self._waiting[token] = (session, late)
        return token

    def redeem(self, token: str) -> Session:
        """What it is for; it is good for nothing afterwards. NotFound."""
        try:
            session, late = self._waiting.pop(token)
        except KeyError:
            raise NotFound("stream: its token is unknown, used, or too old") from None
        late.cancel()
        return session

    def close(self) -> None:
        """Forget them all."""
        for _, late in self._waiting.values():
            late.cancel()
        self._waiting.clear()
