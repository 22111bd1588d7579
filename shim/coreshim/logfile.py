"""Docker's json-file log: ``{"log", "stream", "time"}``, one object a line."""

from __future__ import annotations

import json
import os
import time

from coreshim.hibernation import Luggage, State, bytes_of, text_of

__all__ = ["JsonFile"]

# docker cuts longer lines at this size too
_LONGEST = 16 << 10


class JsonFile:
    """Appends what one stream writes; several may append to one file (O_APPEND)."""

    def __init__(self, file: int, stream: str, rest: bytes = b"") -> None:
        self._file = file
        self._stream = stream
        self._rest = rest

    @classmethod
    def opened(cls, path: str, stream: str) -> JsonFile:
        """The log at ``path``, which need not exist. OSError."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return cls(os.open(path, flags, 0o640), stream)

    @classmethod
    def unpacked(cls, state: State, luggage: Luggage) -> JsonFile:
        """Go on with what an earlier worker has open."""
        file = luggage.unpack(state["file"])
        return cls(file, state["stream"], bytes_of(state["rest"]))

    def pack(self, luggage: Luggage) -> State:
        """What :meth:`unpacked` needs."""
        file, rest = luggage.pack(self._file), text_of(self._rest)
        return {"file": file, "stream": self._stream, "rest": rest}

    def write(self, data: bytes) -> None:
        """Log whole lines; what is not ended yet is kept until it is, or too long."""
        data = self._rest + data
        lines = _lines(data)
        self._rest = b""
        if lines and not lines[-1].endswith(b"\n"):
            self._rest = lines.pop()
        while len(self._rest) >= _LONGEST:
            lines.append(self._rest[:_LONGEST])
            self._rest = self._rest[_LONGEST:]
        if lines:
            self._append(lines)

    def close(self) -> None:
        """Log what is left and close."""
        if self._rest:
            self._append([self._rest])
        os.close(self._file)

    def _append(self, lines: list[bytes]) -> None:
        moment = time.time_ns()
        seconds, rest = divmod(moment, 1_000_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
        tail = f',"stream":"{self._stream}","time":"{stamp}"}}\n'
        out = []
        for line in lines:
            for start in range(0, len(line), _LONGEST):
                text = line[start : start + _LONGEST].decode("utf-8", "replace")
                out.append(f'{{"log":{json.dumps(text, ensure_ascii=False)}{tail}')
        data = "".join(out).encode("utf-8", "replace")
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


def _lines(data: bytes) -> list[bytes]:
    """The lines with their ends; the last one may have none. A carriage return ends none."""
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines
