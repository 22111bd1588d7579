"""Streaming: exec, attach and port-forward by WebSocket and SPDY, and what the server refuses."""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from cored_service_cri.streaming.dictionary import DICTIONARY
from cored_service_cri.streaming.spdyframes import Data, Decoder, Encoder
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request

from cored._pb.cri.v1 import api_pb2 as pb
from tests.kubelet import Kubelet, refused
from tests.patience import eventually

pytestmark = pytest.mark.root
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class Web:
    """A WebSocket client as kubectl's: channels by the first byte."""

    def __init__(self, url: str, protocol: str = "v5.channel.k8s.io") -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self.wire = WSConnection(ConnectionType.CLIENT)
        request = Request(host=parts.netloc, target=parts.path, subprotocols=[protocol])
        self.socket.sendall(self.wire.send(request))
        self.accepted = ""
        self.events = self._events()
        event = next(self.events)
        assert isinstance(event, AcceptConnection), event
        self.accepted = event.subprotocol or ""

    def _events(self) -> Iterator[Any]:
        while True:
            data = self.socket.recv(1 << 16)
            if not data:
                return
            self.wire.receive_data(data)
            for event in self.wire.events():
                yield event
                if isinstance(event, CloseConnection):
                    return

    def send(self, channel: int, data: bytes) -> None:
        self.socket.sendall(self.wire.send(BytesMessage(data=bytes((channel,)) + data)))

    def rest(self) -> dict[int, bytes]:
        """All that comes until the end, by channel."""
        found: dict[int, bytes] = defaultdict(bytes)
        with self.socket:
            for event in self.events:
                if isinstance(event, BytesMessage):
                    found[event.data[0]] += bytes(event.data[1:])
        return found


class Spdy:
    """A SPDY client as kubelet's and crictl's."""

    def __init__(self, url: str, protocol: str = "v4.channel.k8s.io") -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
            f"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        head_, _, self.early = answer.partition(b"\r\n\r\n")
        assert b"101 Switching" in head_ and protocol.encode() in head_, head_
        self.encoder, self.decoder, self.next = Encoder(), Decoder(), 1

    def open(self, kind: str, **headers: str) -> int:
        number, self.next = self.next, self.next + 2
        self.socket.sendall(self.encoder.syn(number, {"streamtype": kind, **headers}))
        return number

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self.socket.sendall(self.encoder.data(stream, data, fin=fin))

    def until(self, streams: set[int]) -> dict[int, bytes]:
        """All that comes until these streams have ended."""
        found: dict[int, bytes] = defaultdict(bytes)
        left, data = set(streams), self.early
        while True:
            for frame in self.decoder.feed(data):
                if isinstance(frame, Data):
                    found[frame.stream] += frame.payload
                    if frame.fin:
                        left.discard(frame.stream)
            if not left:
                self.socket.close()
                return found
            data = self.socket.recv(1 << 16)
            assert data, f"ended before {left} did"


def test_the_dictionary_is_the_protocols() -> None:
    # that of the draft, as every other implementation has it
    assert len(DICTIONARY) == 1423
    assert sha256(DICTIONARY).hexdigest().startswith("51d27341373f923f")


def test_exec_by_websocket_has_streams_and_an_exit_code(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)
    command = ["sh", "-c", "read x; echo got $x; echo bad >&2; exit 4"]
    url = kubelet.call(
        "Exec", container_id=one, cmd=command, stdin=True, stdout=True, stderr=True
    ).url
    client = Web(url)
    assert client.accepted == "v5.channel.k8s.io"
    client.send(STDIN, b"a line\n")
    found = client.rest()
    assert (found[STDOUT], found[STDERR]) == (b"got a line\n", b"bad\n")
    status = json.loads(found[ERROR])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]


def test_the_end_of_the_clients_input_is_the_commands(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)
    ask = {"container_id": one, "cmd": ["wc", "-c"], "stdin": True, "stdout": True}
    client = Web(kubelet.call("Exec", **ask).url)
    client.send(STDIN, b"x" * 100_000)
    client.send(255, bytes((STDIN,)))
    found = client.rest()
    assert (found[STDOUT], json.loads(found[ERROR])["status"]) == (b"100000\n", "Success")
    spdy = Spdy(kubelet.call("Exec", **ask).url)
    error, stdin, stdout = (spdy.open(kind) for kind in ("error", "stdin", "stdout"))
    spdy.send(stdin, b"x" * 50_000)
    spdy.send(stdin, b"", fin=True)
    streams = spdy.until({error})
    assert (streams[stdout], json.loads(streams[error])["status"]) == (b"50000\n", "Success")


def test_a_terminal_has_the_size_that_the_client_has(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)
    command = ["sh", "-c", "until stty size | grep '33 99'; do sleep 0.1; done; test -t 0"]
    ask = {"container_id": one, "cmd": command, "tty": True, "stdin": True, "stdout": True}
    client = Web(kubelet.call("Exec", **ask).url, "v4.channel.k8s.io")
    client.send(RESIZE, b'{"Width": 99, "Height": 33}')
    found = client.rest()
    assert b"33 99" in found[STDOUT] and json.loads(found[ERROR])["status"] == "Success"
    spdy = Spdy(kubelet.call("Exec", **ask).url)
    error, _, stdout, resize = (spdy.open(k) for k in ("error", "stdin", "stdout", "resize"))
    spdy.send(resize, b'{"Width":99,"Height":33}')
    streams = spdy.until({error})
    assert b"33 99" in streams[stdout]


def test_what_cannot_be_run_is_told_to_the_client(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)
    url = kubelet.call("Exec", container_id=one, cmd=["/no/such"], stdout=True).url
    status = json.loads(Web(url).rest()[ERROR])
    assert (status["status"], status["reason"]) == ("Failure", "InternalError")


def test_who_attaches_hears_and_is_heard_and_the_log_has_all(kubelet: Kubelet, pod: str) -> None:
    script = "while read x; do echo heard $x; test $x = end && exit; done"
    one = kubelet.start(pod, "sh", "-c", script, stdin=True)
    ask = {"container_id": one, "stdin": True, "stdout": True, "stderr": True}
    first = Web(kubelet.call("Attach", **ask).url)
    second = Spdy(kubelet.call("Attach", **ask).url)
    error, stdin, stdout, _ = (second.open(k) for k in ("error", "stdin", "stdout", "stderr"))

    def both_listen() -> bool:
        first.send(STDIN, b"hello\n")
        return kubelet_heard(first)

    def kubelet_heard(client: Web) -> bool:
        event = next(client.events)
        return isinstance(event, BytesMessage) and b"heard" in bytes(event.data)

    assert eventually(both_listen)
    second.send(stdin, b"end\n")
    assert b"heard end\n" in second.until({error})[stdout]
    assert b"heard end\n" in first.rest()[STDOUT]
    assert "heard hello" in kubelet.log(one) and kubelet.log(one).endswith("heard end")


def _served(kubelet: Kubelet, pod: str) -> str:
    one = kubelet.start(pod, "sh", "-c", "echo page >/index.html; httpd -f -p 8080 -h /")
    eventually(lambda: b":1F90" in kubelet.exec(one, "cat", "/proc/net/tcp6").stdout)
    return one


def test_ports_are_forwarded_by_spdy_and_inside_of_a_websocket(kubelet: Kubelet, pod: str) -> None:
    _served(kubelet, pod)
    request = b"GET /index.html HTTP/1.0\r\n\r\n"
    client = Spdy(kubelet.call("PortForward", pod_sandbox_id=pod).url, "portforward.k8s.io")
    error = client.open("error", port="8080", requestid="1")
    data = client.open("data", port="8080", requestid="1")
    refused_error = client.open("error", port="9", requestid="2")
    client.open("data", port="9", requestid="2")
    client.send(data, request)
    found = client.until({data, error, refused_error})
    assert found[data].endswith(b"page\n") and not found[error]
    assert b"port 9" in found[refused_error]
    url = kubelet.call("PortForward", pod_sandbox_id=pod, port=[8080]).url
    web = Web(url, "v4.channel.k8s.io")
    web.send(0, request)
    seen = bytearray()
    while not seen.endswith(b"page\n"):
        event = next(web.events)
        if isinstance(event, BytesMessage) and event.data[0] == 0:
            seen += event.data[1:]
    assert seen.startswith(struct.pack("<H", 8080))
    web.socket.close()


def test_a_token_is_good_once_and_only_for_an_upgrade(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)

    def answer(url: str, *headers: str) -> bytes:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as plain:
            lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
            plain.sendall("\r\n".join(lines).encode())
            return plain.recv(4096)

    key = base64.b64encode(b"0123456789abcdef").decode()
    upgrade = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    )  # fmt: skip
    url = kubelet.call("Exec", container_id=one, cmd=["true"], stdout=True).url
    assert answer(url).startswith(b"HTTP/1.1 400")
    assert json.loads(Web(url).rest()[ERROR])["status"] == "Success"
    assert answer(url, *upgrade).startswith(b"HTTP/1.1 404")
    assert answer(url.replace("/exec/", "/nothing/"), *upgrade).startswith(b"HTTP/1.1 404")
    assert answer(url.rpartition("/")[0] + "/guessed", *upgrade).startswith(b"HTTP/1.1 404")


def test_streams_that_make_no_sense_are_refused(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.create(pod)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("Exec", container_id=one, cmd=["true"], stdout=True)
    kubelet.call("StartContainer", container_id=one)
    for fields in (
        {"cmd": ["true"]},
        {"stdout": True},
        {"cmd": ["true"], "stderr": True, "tty": True},
    ):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            kubelet.call("Exec", container_id=one, **fields)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.call("Attach", container_id=one)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.call("PortForward", pod_sandbox_id=pod, port=[70000])
    for method, name in (("Exec", "container_id"), ("Attach", "container_id"),
                         ("PortForward", "pod_sandbox_id")):  # fmt: skip
        with refused(grpc.StatusCode.NOT_FOUND):
            kubelet.call(method, **{name: "none"})


def test_a_client_that_leaves_takes_its_command_along(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod)
    url = kubelet.call("Exec", container_id=one, cmd=["sleep", "66"], stdout=True).url
    client = Web(url)
    running = ["sh", "-c", "cat /proc/[0-9]*/cmdline"]
    eventually(lambda: b"sleep\x0066" in kubelet.exec(one, *running).stdout)
    client.socket.close()
    eventually(lambda: b"sleep\x0066" not in kubelet.exec(one, *running).stdout)
    assert kubelet.status(one).state == pb.CONTAINER_RUNNING
