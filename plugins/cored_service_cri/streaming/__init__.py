"""Streams of execs, attaches and forwarded ports, over HTTP connections that a kubelet relays."""

from __future__ import annotations

from cored._pb.cri.v1 import api_pb2 as pb
from cored_service_cri.values import Container, Pod


class Streaming:
    address = ""

    def exec(self, one: Container, request: pb.ExecRequest) -> str:
        return ""

    def attach(self, one: Container, request: pb.AttachRequest) -> str:
        return ""

    def forward(self, one: Pod, request: pb.PortForwardRequest) -> str:
        return ""
