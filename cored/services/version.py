"""containerd.services.version.v1.Version"""

from __future__ import annotations

from importlib.metadata import version

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.version.v1 import version_pb2
from cored.abc.service import Service

__all__ = ["VersionService"]


class VersionService(Service):
    """Tells who answers. The version has the form that clients parse as containerd's: v2.x."""

    service = "containerd.services.version.v1.Version"
    scoped = False

    def __init__(self) -> None:
        self._version = version("cored")

    async def Version(self, request: Empty) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version=f"v2.1.0+cored.{self._version}")
