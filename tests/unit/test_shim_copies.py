"""Copies of a stream for any number of readers: all have all of it, whoever comes and goes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from coreshim.copies import Copies, open_reader
from coreshim.hibernation import Luggage


class Reader:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        found = b""
        try:
            while data := os.read(self.fd, 1 << 20):
                found += data
        except BlockingIOError:
            return found
        return found + b"<end>"

    def leave(self) -> None:
        os.close(self.fd)


def test_all_readers_have_what_came_since_they_joined(tmp_path: Path) -> None:
    named, one, two = (Reader(tmp_path / name) for name in ("named", "one", "two"))
    copies = Copies(named.path)
    assert copies.write(b"a") == 1
    copies.join(open_reader(one.path))
    assert copies.write(b"b") == 1
    copies.join(open_reader(two.path))
    assert copies.write(b"c") == 1
    copies.close()
    assert [reader.read() for reader in (named, one, two)] == [b"abc<end>", b"bc<end>", b"c<end>"]
    for reader in (named, one, two):
        reader.leave()


def test_the_slowest_sets_the_pace_and_nobody_misses_anything(tmp_path: Path) -> None:
    quick, slow = Reader(tmp_path / "quick"), Reader(tmp_path / "slow")
    copies = Copies("")
    for reader in (quick, slow):
        copies.join(open_reader(reader.path))
    rest, seen = os.urandom(300_000), b""
    whole, blocked = rest, 0
    got = b""
    while rest:
        try:
            rest = rest[copies.write(rest) :]
        except BlockingIOError:
            blocked += 1
            assert copies.fd >= 0
            got += slow.read()
        seen += quick.read()
    assert blocked
    assert seen == whole
    assert got + slow.read() == whole
    copies.close()
    quick.leave()
    slow.leave()


def test_who_has_gone_holds_nobody_up(tmp_path: Path) -> None:
    stays, goes = Reader(tmp_path / "stays"), Reader(tmp_path / "goes")
    copies = Copies("")
    copies.join(open_reader(stays.path))
    copies.join(open_reader(goes.path))
    goes.leave()
    assert copies.write(b"x" * 9000) == 9000
    assert len(stays.read()) == 9000
    with pytest.raises(OSError):
        open_reader(goes.path)  # ENXIO: who is not there cannot join
    stays.leave()
    assert copies.write(b"nobody") == 6
    copies.close()


def test_the_next_worker_writes_to_the_same_readers(tmp_path: Path) -> None:
    one = Reader(tmp_path / "one")
    copies, luggage = Copies(""), Luggage()
    copies.join(open_reader(one.path))
    copies.write(b"before ")
    state = json.loads(json.dumps(copies.pack(luggage)))
    again = Copies.unpacked(state, Luggage(luggage.descriptors))
    again.write(b"after")
    again.close()
    assert one.read() == b"before after<end>"
    one.leave()
