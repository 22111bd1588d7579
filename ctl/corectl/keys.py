"""Detach keys: the sequence that leaves a container to itself."""

from __future__ import annotations

from cored.errors import InvalidArgument

__all__ = ["USUAL", "DetachKeys"]

USUAL = "ctrl-p,ctrl-q"
_SIGNS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class DetachKeys:
    """Finds the sequence in what is typed; what only begins like it is passed on."""

    def __init__(self, text: str = USUAL) -> None:
        self._keys = parsed(text or USUAL)
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the sequence was typed."""
        passed = bytearray()
        for number in range(len(data)):
            self._held += data[number : number + 1]
            if self._held == self._keys:
                self._held = b""
                return bytes(passed), True
            while self._held and not self._keys.startswith(self._held):
                passed += self._held[:1]
                self._held = self._held[1:]
        return bytes(passed), False


def parsed(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b``. InvalidArgument."""
    found = bytearray()
    for word in text.split(","):
        name = word.removeprefix("ctrl-")
        if len(name) != 1 or (name == word and not name.isascii()):
            raise _unknown(text)
        if name == word:
            found += name.encode()
        elif name.isascii() and name.isalpha():
            found.append(ord(name.lower()) - 96)
        elif name in _SIGNS:
            found.append(_SIGNS[name])
        else:
            raise _unknown(text)
    return bytes(found)


def _unknown(text: str) -> InvalidArgument:
    return InvalidArgument(f"--detach-keys '{text}': not understood", hint="write ctrl-p,ctrl-q")
