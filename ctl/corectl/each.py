"""One action on several things: a failure is said and does not keep the others from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cored.errors import CoredError

if TYPE_CHECKING:
    from corectl.session import Session

__all__ = ["each"]


def each(session: Session, names: Iterable[str], act: Callable[[str], None]) -> int:
    """Do ``act`` for each name. 0, or 1 when one failed; nobody answering ends it at once."""
    from corectl.report import failed
    from cored.client.connection import Disconnected

    code = 0
    for name in names:
        try:
            act(name)
        except Disconnected:
            raise
        except CoredError as error:
            failed(error, debug=session.debug)
            code = 1
    return code
