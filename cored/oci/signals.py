"""Signals as images and people name them."""

from __future__ import annotations

import signal

from cored.errors import InvalidArgument

__all__ = ["number"]


def number(text: str) -> int:
    """SIGTERM, TERM or 15; '' is SIGTERM. InvalidArgument."""
    if not text:
        return signal.SIGTERM
    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name.startswith("SIGRTMIN+") and name[9:].isdecimal():
        return int(signal.SIGRTMIN) + int(name[9:])
    try:
        return signal.Signals[name]
    except KeyError as error:
        raise InvalidArgument(f"signal {text!r}: unknown") from error
