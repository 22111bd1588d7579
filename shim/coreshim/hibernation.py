"""What a shim's worker leaves to its keeper when it goes to sleep: plain values and descriptors.

Every part of a worker that has a state answers three questions: ``quiet`` (is all that matters in
:meth:`pack`?), ``pack`` (plain values; descriptors go into the :class:`Luggage`), and ``unpack``.
"""

from __future__ import annotations

import base64
import json
import socket
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Luggage", "Parcel", "State", "bytes_of", "receive", "send", "text_of"]

State = dict[str, Any]
# one message: the kernel's SCM_MAX_FD, and well below a socket's buffer
_MOST_DESCRIPTORS = 253
_LARGEST = 128 << 10
# plain numbers: or-ing the enumeration's members costs a keeper memory
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_ROOM = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)


class Luggage:
    """Descriptors, which a state names by their place."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.descriptors = list(descriptors)

    def pack(self, fd: int) -> int:
        """The place of a descriptor that comes along; -1 for -1."""
        if fd < 0:
            return -1
        self.descriptors.append(fd)
        return len(self.descriptors) - 1

    def unpack(self, place: int) -> int:
        """The descriptor at a place, the caller's from now on; -1 for -1."""
        return self.descriptors[place] if place >= 0 else -1


class Parcel:
    """As the keeper has it: ``watched`` are (descriptor, events), ``awaited`` pids.

    ``callers`` are the clients' connections.
    """

    def __init__(self, line: bytes, state: bytes, descriptors: list[int]) -> None:
        watched, self.awaited, callers = json.loads(line)
        self.callers = [descriptors[place] for place in callers]
        self.state = state
        self.descriptors = descriptors
        self.watched = [(descriptors[place], events) for place, events in watched]

    def opened(self) -> tuple[State, Luggage]:
        """For the next worker, which has inherited the descriptors."""
        return json.loads(self.state), Luggage(self.descriptors)


def send(
    line: socket.socket,
    state: State,
    luggage: Luggage,
    watched: Mapping[int, int],
    awaited: Sequence[int],
    callers: Sequence[int] = (),
) -> bool:
    """Hand over, with what to wait for; False if that cannot be.

    ``watched`` has the events to wait for by descriptor, ``awaited`` the pids whose end matters,
    ``callers`` the places of connections, whose end can wait.
    """
    if not watched.keys() <= set(luggage.descriptors):
        return False  # something else is being waited for
    places = [[luggage.descriptors.index(fd), events] for fd, events in watched.items()]
    head = json.dumps([places, list(awaited), list(callers)], separators=(",", ":"))
    data = head.encode() + b"\n" + json.dumps(state, separators=(",", ":")).encode()
    if len(data) > _LARGEST or len(luggage.descriptors) > _MOST_DESCRIPTORS:
        return False
    socket.send_fds(line, [data], luggage.descriptors)
    return True


def receive(line: socket.socket) -> Parcel | None:
    """What a worker has left; None if it has left nothing."""
    try:
        data, ancillary, _, _ = line.recvmsg(_LARGEST, _ROOM, _FLAGS)
    except BlockingIOError:
        return None
    descriptors = array("i")
    for _, _, packed in ancillary:
        descriptors.frombytes(packed)
    head, _, state = data.partition(b"\n")
    return Parcel(head, state, list(descriptors))


def text_of(data: bytes) -> str:
    """Bytes as JSON can have them."""
    return base64.b64encode(data).decode()


def bytes_of(text: str) -> bytes:
    """The bytes of :func:`text_of`."""
    return base64.b64decode(text)
