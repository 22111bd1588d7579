"""Which signal asks a container to stop."""

from __future__ import annotations

import re
import signal

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument
from cored_service_cri.values import Container

__all__ = ["named", "number", "stop_signal"]

_NAME = re.compile(r"(?:SIG)?(RTMIN|RTMAX|[A-Z0-9]+?)(?:(PLUS|MINUS|\+|-)(\d+))?")
_OLDER = {"POLL": "IO", "CLD": "CHLD", "IOT": "ABRT"}


def stop_signal(one: Container) -> int:
    """The pod's word, else the image's, else SIGTERM. InvalidArgument."""
    return number(named(one).removeprefix("SIGNAL_"))


def named(one: Container) -> str:
    """The same, as the wire calls it: SIGNAL_SIGTERM."""
    if one.config.stop_signal:
        return str(pb.Signal.Name(one.config.stop_signal))
    wanted = number(one.state.stop_signal or "SIGTERM")
    for name in pb.Signal.keys()[1:]:
        if number(name.removeprefix("SIGNAL_")) == wanted:
            return str(name)
    return "SIGNAL_SIGTERM"


def number(text: str) -> int:
    """SIGTERM, TERM, 15, RTMIN+3 or SIGRTMINPLUS3. InvalidArgument."""
    if text.isdecimal():
        return int(text)
    found = _NAME.fullmatch(text.upper())
    name = found and f"SIG{_OLDER.get(found[1], found[1])}"
    if found is None or name not in signal.Signals.__members__:
        raise InvalidArgument(f"signal {text!r}: unknown")
    offset = int(found[3] or 0)
    return signal.Signals[str(name)] + (-offset if found[2] in ("MINUS", "-") else offset)
