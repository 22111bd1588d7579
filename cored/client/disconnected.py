"""The error of a connection that is not there, or no longer."""

from __future__ import annotations

from cored.errors import Unavailable

__all__ = ["Disconnected"]


class Disconnected(Unavailable):
    """No daemon answers, or the connection to it broke: whether the call took effect is unknown."""
