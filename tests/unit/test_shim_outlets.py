"""Log services, as the shim speaks to them: formats, slow and broken connections, sleep."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from coreshim.hibernation import Luggage
from coreshim.logged import Logged, open_log, sink_of
from coreshim.loop import Loop
from coreshim.outlets import Outlet
from coreshim.relay import Relay
from coreshim.server import Failure

from tests import certificates
from tests.logservices import journal, server
from tests.patience import eventually


class Writer:
    """A container's end of a pipe, and the shim's relay from it to a log."""

    def __init__(self, uri: str, stream: str = "stdout") -> None:
        self.loop = Loop()
        source, self.fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(source, False)
        sink = open_log(uri, stream)
        assert sink is not None
        self.relay = Relay(self.loop, source, sink)

    def run(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Let the shim's loop run until it is so."""
        end = time.monotonic() + seconds

        def look() -> None:
            if condition() or time.monotonic() > end:
                self.loop.stop()
            else:
                self.loop.later(0.01, look)

        self.loop._stopped = False
        look()
        self.loop.run()
        assert condition()

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)
        self.settle()

    def settle(self) -> None:
        """Let the shim read and pass on what has been written."""
        self.run(lambda: self.relay.quiet and not select.select([self.relay._source], [], [], 0)[0])

    def sleep(self) -> None:
        """What a worker leaves to the next one."""
        assert self.relay.quiet
        luggage = Luggage()
        state = json.loads(json.dumps(self.relay.pack(luggage)))
        kept = [os.dup(fd) for fd in luggage.descriptors]
        self.loop.unwatch(self.relay._source)
        os.close(self.relay._source)
        sink = self.relay._sink
        assert isinstance(sink, Logged)
        assert sink._outlet is not None
        sink._outlet.disconnect()
        self.relay = Relay.unpacked(self.loop, state, Luggage(kept))

    def end(self) -> None:
        os.close(self.fd)
        self.run(lambda: self.relay.done.done)
        self.loop.close()


def uri(scheme: str, path: str = "", **options: str) -> str:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return f"{scheme}://{path}?{urlencode(given)}"


@pytest.fixture
def place(short_tmp: Path) -> Iterator[Path]:
    yield short_tmp


def test_the_journal_has_dockers_fields(place: Path) -> None:
    with journal(place / "socket") as there:
        fields = json.dumps({"CONTAINER_NAME": "web", "LABEL": "two\nlines"})
        for stream in ("stdout", "stderr"):
            writer = Writer(uri("journald", socket=str(place / "socket"), fields=fields), stream)
            writer.write(f"from {stream}\n".encode())
            writer.end()
        eventually(lambda: len(there.messages) == 2)
        assert there.entries == [
            {"CONTAINER_NAME": b"web", "LABEL": b"two\nlines", "PRIORITY": b"6",
             "MESSAGE": b"from stdout"},
            {"CONTAINER_NAME": b"web", "LABEL": b"two\nlines", "PRIORITY": b"3",
             "MESSAGE": b"from stderr"},
        ]  # fmt: skip


def test_the_pieces_of_a_long_line_can_be_put_together(place: Path) -> None:
    with journal(place / "socket") as there:
        writer = Writer(uri("journald", socket=str(place / "socket")))
        os.set_blocking(writer.fd, False)
        line = b"".join(b"%06d" % number for number in range(6000))
        os.write(writer.fd, line[:30000])
        writer.settle()
        writer.sleep()
        writer.write(line[30000:] + b"\nshort\n")
        eventually(lambda: len(there.messages) == 4)
        *pieces, short = there.entries
        assert b"".join(piece["MESSAGE"] for piece in pieces) == line
        assert len({piece["CONTAINER_PARTIAL_ID"] for piece in pieces}) == 1
        assert [piece["CONTAINER_PARTIAL_ORDINAL"] for piece in pieces] == [b"1", b"2", b"3"]
        assert [piece["CONTAINER_PARTIAL_LAST"] for piece in pieces] == [
            b"false",
            b"false",
            b"true",
        ]
        assert [piece.get("CONTAINER_PARTIAL_MESSAGE") for piece in pieces] == [
            b"true",
            b"true",
            None,
        ]
        assert short == {"PRIORITY": b"6", "MESSAGE": b"short"}
        writer.end()


def test_a_slow_journal_holds_the_container_up_and_loses_nothing(place: Path) -> None:
    with journal(place / "socket") as there:
        writer = Writer(uri("journald", socket=str(place / "socket")))
        os.set_blocking(writer.fd, False)
        there.pause()
        written, blocked = 0, 0
        while blocked < 20:
            try:
                os.write(writer.fd, b"%07d\n" % written)
                written += 1
            except BlockingIOError:
                blocked += 1
                for _ in range(3):
                    writer.loop.later(0.005, writer.loop.stop)
                    writer.loop._stopped = False
                    writer.loop.run()
        there.resume()
        writer.end()
        eventually(lambda: len(there.messages) == written)
        assert [int(entry["MESSAGE"]) for entry in there.entries] == list(range(written))


STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
HOST = re.escape(os.uname().nodename)


@pytest.mark.parametrize(
    ("format", "pattern"),
    [
        ("", rf"<30>{STAMP} web\[\d+\]: hello"),
        ("rfc3164", rf"<30>{STAMP} {HOST} web\[\d+\]: hello"),
        ("rfc5424", rf"<30>1 {ISO}[+-]\d\d:\d\d {HOST} web \d+ web - hello"),
        ("rfc5424micro", rf"<30>1 {ISO}\.\d{{6}}[+-]\d\d:\d\d {HOST} web \d+ web - hello"),
    ],
)
@pytest.mark.parametrize("kind", ["unix", "unixgram", "udp", "tcp"])
def test_syslog_has_every_format_on_every_transport(
    place: Path, kind: str, format: str, pattern: str
) -> None:
    where: Path | int = place / "socket" if kind.startswith("unix") else 0
    with server(kind, where) as there:
        address = f"{kind}://{where}" if where else f"{kind}://127.0.0.1:{there.port}"
        writer = Writer(uri("syslog", address=address, format=format, tag="web", facility="3"))
        writer.write(b"hello\n")
        writer.sleep()
        writer.write(b"again\n")
        writer.end()
        eventually(lambda: len(there.lines) == 2)
        assert re.fullmatch(pattern, there.lines[0])
        assert there.lines[1].endswith("again")


def test_errors_have_another_priority(place: Path) -> None:
    with server("unixgram", place / "s") as there:
        writer = Writer(uri("syslog", address=f"unix://{place}/s", facility="16"), "stderr")
        writer.write(b"hello\n")
        writer.end()
        eventually(lambda: there.lines)
        assert there.lines[0].startswith(f"<{16 * 8 + 3}>")


def test_tls_is_checked_and_counts_octets(place: Path) -> None:
    authority = certificates.authority(place / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    with server("tcp", 0, context) as there:
        given = {"address": f"tcp+tls://localhost:{there.port}", "tag": "web"}
        with pytest.raises(Failure, match="certificate"):
            open_log(uri("syslog", **given), "stdout")
        given["tls-ca-cert"] = str(authority.certificate)
        writer = Writer(uri("syslog", format="rfc5424", **given))
        writer.write(b"one\ntwo\n")
        eventually(lambda: there.stream.endswith(b"two"))
        writer.sleep()  # the connection is made anew
        writer.write(b"three\n")
        writer.end()
        eventually(lambda: there.stream.endswith(b"three"))
        rest, found = there.stream, []
        while rest:
            length, _, rest = rest.partition(b" ")
            found.append(rest[: int(length)])
            rest = rest[int(length) :]
        assert [message.rpartition(b" - ")[2] for message in found] == [b"one", b"two", b"three"]
        skipping = {**given, "tls-ca-cert": "", "tls-skip-verify": "true"}
        Writer(uri("syslog", **skipping)).end()


def test_a_server_that_comes_back_gets_what_was_written_meanwhile(place: Path) -> None:
    with server("tcp") as first:
        port = first.port
        address = f"tcp://127.0.0.1:{port}"
        writer = Writer(uri("syslog", str(place / "log"), address=address))
        writer.write(b"one\n")
        eventually(lambda: first.lines)
        first.hang_up()
    os.write(writer.fd, b"two\n")
    writer.run(lambda: (place / "log").read_bytes().count(b"\n") == 2)
    assert not writer.relay.quiet
    with server("tcp", port) as second:
        writer.run(lambda: writer.relay.quiet)
        writer.write(b"three\n")
        writer.end()
        eventually(lambda: len(second.lines) == 2)
        assert [line[-5:].split()[-1] for line in second.lines] == ["two", "three"]
    assert [line[20:] for line in (place / "log").read_bytes().splitlines()] == [
        b"one", b"two", b"three",
    ]  # fmt: skip


def test_a_slow_server_holds_up_or_costs_lines_as_the_mode_says(place: Path) -> None:
    for mode in ("blocking", "non-blocking"):
        with server("tcp") as there:
            given = {"address": f"tcp://127.0.0.1:{there.port}", "max-buffer-size": "10000"}
            writer = Writer(uri("syslog", mode=mode, **given))
            os.set_blocking(writer.fd, False)
            there.pause()
            refused = 0
            for number in range(200):
                try:
                    os.write(writer.fd, b"%05d %s\n" % (number, b"x" * 60_000))
                except BlockingIOError:
                    refused += 1
                writer.loop.later(0.001, writer.loop.stop)
                writer.loop._stopped = False
                writer.loop.run()
            assert (refused > 0) == (mode == "blocking")
            there.resume()
            writer.end()


def test_no_service_is_said_at_once(place: Path) -> None:
    with pytest.raises(Failure, match=f"journald: no journal at {place}/none: No such file"):
        open_log(uri("journald", socket=f"{place}/none"), "stdout")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Failure, match=f"syslog: {address}: Connection refused"):
            open_log(uri("syslog", address=address), "stdout")


class Nowhere(Outlet):
    """A service that never answers."""

    def connect(self) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    def disconnect(self) -> None:
        self.fd = -1

    def message(self, text: bytes) -> bytes:
        return text


def test_what_waits_for_a_service_for_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    outlet = Nowhere("stdout", {})
    outlet.offer([b"x" * 1000] * 100)
    assert outlet.pending
    assert not outlet.full
    now += 29
    outlet.flush()
    assert outlet.pending
    now += 2
    outlet.flush()
    assert not outlet.pending
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "log: 1 messages are lost: its buffer is full"
    assert said[-1] == "log: 100 messages are lost: [Errno 111] Connection refused"


def test_a_sink_that_slept_is_known_by_its_uri(tmp_path: Path) -> None:
    log = open_log(f"none://?copy={tmp_path}/none", "stdout")
    assert log is not None
    luggage = Luggage()
    again = sink_of(json.loads(json.dumps(log.pack(luggage))), luggage)
    assert again.write(b"x") == 1
