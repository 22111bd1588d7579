"""containerd.services.introspection.v1.Introspection: plugins under the names that clients know."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from cored import filters as language
from cored._pb.containerd.services.introspection.v1 import introspection_pb2 as pb
from cored._pb.containerd.types import introspection_pb2, platform_pb2
from cored._pb.google.rpc import status_pb2
from cored.abc.service import Service
from cored.engine.tasks import Tasks
from cored.errors import InvalidArgument, NotFound, Unimplemented
from cored.hookspecs import PluginKind
from cored.oci.platforms import host
from cored.plugins import LoadedPlugin, Plugins
from cored.services.wire import typed_message, typed_value

__all__ = ["IntrospectionService"]

_TYPES: Mapping[PluginKind, str] = {
    PluginKind.CONTENT_STORE: "io.containerd.content.v1",
    PluginKind.SNAPSHOTTER: "io.containerd.snapshotter.v1",
    PluginKind.DIFFER: "io.containerd.differ.v1",
    PluginKind.RUNTIME: "io.containerd.runtime.v2",
    PluginKind.SANDBOX_CONTROLLER: "io.containerd.sandbox.controller.v1",
    PluginKind.NETWORK: "io.cored.network.v1",
    PluginKind.VOLUME_DRIVER: "io.cored.volume.v1",
    PluginKind.LOG_DRIVER: "io.cored.log.v1",
    PluginKind.SERVICE: "io.containerd.grpc.v1",
}
# ids that clients look for by containerd's names
_IDS = {
    (PluginKind.CONTENT_STORE, "local"): "content",
    (PluginKind.RUNTIME, "shim"): "task",
}
_BUILT_IN_SERVICES = (
    "containers", "content", "diff", "events", "healthcheck", "images", "introspection",
    "leases", "mounts", "namespaces", "sandbox-controllers", "sandboxes", "snapshots",
    "streaming", "tasks", "transfer", "version",
)  # fmt: skip
# parts of the daemon that containerd has as plugins, and clients ask for
_BUILT_IN = (
    ("io.containerd.gc.v1", "scheduler"),
    ("io.containerd.metadata.v1", "bolt"),
    ("io.containerd.mount-manager.v1", "bolt"),
    ("io.containerd.event.v1", "exchange"),
    ("io.containerd.lease.v1", "manager"),
    ("io.containerd.streaming.v1", "manager"),
    ("io.containerd.transfer.v1", "local"),
    ("io.containerd.ttrpc.v1", "events"),
)


class IntrospectionService(Service):
    service = "containerd.services.introspection.v1.Introspection"
    scoped = False

    def __init__(self, plugins: Plugins, tasks: Tasks, root: Path, opt: Path) -> None:
        self._plugins = plugins
        self._tasks = tasks
        self._root = root
        self._opt = opt

    async def Plugins(self, request: pb.PluginsRequest) -> pb.PluginsResponse:
        wanted = language.parse(tuple(request.filters))
        return pb.PluginsResponse(
            plugins=[p for p in self._all() if wanted.match(partial(_field, p))]
        )

    async def Server(self, request: Empty) -> pb.ServerResponse:
        return pb.ServerResponse(
            uuid=_server_id(self._root / "uuid"),
            pid=os.getpid(),
            pidns=Path("/proc/self/ns/pid").stat().st_ino,
        )

    async def PluginInfo(self, request: pb.PluginInfoRequest) -> pb.PluginInfoResponse:
        for plugin in self._all():
            if (plugin.type, plugin.id) == (request.type, request.id):
                break
        else:
            raise NotFound(f"plugin {request.type}.{request.id}: not found")
        answer = pb.PluginInfoResponse(plugin=plugin)
        if request.type == _TYPES[PluginKind.RUNTIME]:
            answer.extra.CopyFrom(await self._runtime(_runtime_request(request)))
        elif request.HasField("options"):
            raise Unimplemented(f"plugin {request.type}.{request.id}: has no more to tell")
        return answer

    async def _runtime(self, asked: introspection_pb2.RuntimeRequest) -> AnyMessage:
        info = await self._tasks.runtime_info(asked.runtime_path, typed_value(asked, "options"))
        message = introspection_pb2.RuntimeInfo(
            name=info.name,
            version=introspection_pb2.RuntimeVersion(version=info.version),
            options=asked.options if asked.HasField("options") else None,
            features=typed_message(info.features),
            annotations=info.annotations,
        )
        return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())

    def _all(self) -> Iterator[pb.Plugin]:
        for plugin in self._plugins:
            yield _message(plugin)
        for name in _BUILT_IN_SERVICES:
            yield pb.Plugin(type=_TYPES[PluginKind.SERVICE], id=name)
        for kind, name in _BUILT_IN:
            yield pb.Plugin(type=kind, id=name, platforms=[_platform(None)])
        # where clients install binaries out of images, shims above all
        exports = {"path": str(self._opt)}
        yield pb.Plugin(type="io.containerd.internal.v1", id="opt", exports=exports)


def _runtime_request(request: pb.PluginInfoRequest) -> introspection_pb2.RuntimeRequest:
    asked = introspection_pb2.RuntimeRequest()
    what = f"plugin {request.type}.{request.id}: options"
    if not request.HasField("options"):
        return asked
    if request.options.type_url.rpartition("/")[2] != asked.DESCRIPTOR.full_name:
        raise Unimplemented(
            f"{what} of type {request.options.type_url!r}: are unknown",
            hint=asked.DESCRIPTOR.full_name,
        )
    try:
        asked.ParseFromString(request.options.value)
    except DecodeError as error:
        raise InvalidArgument(f"{what}: cannot be read") from error
    return asked


def _message(plugin: LoadedPlugin) -> pb.Plugin:
    kind = plugin.kind
    message = pb.Plugin(
        type=_TYPES[kind] if kind else "io.cored.plugin.v1",
        id=_IDS.get((kind, plugin.id), plugin.id) if kind else plugin.id,
    )
    if plugin.provider is not None:
        message.capabilities.extend(plugin.provider.capabilities)
        message.exports.update(plugin.provider.exports)
        message.exports.update(getattr(plugin.instance, "exports", {}))
        for platform in plugin.provider.platforms or (None,):
            message.platforms.append(_platform(platform))
    if plugin.error:
        # by these words ctr tells what cannot work here from what is broken
        skip = ": skip plugin" if plugin.code == Unimplemented.code else ""
        message.init_err.CopyFrom(
            status_pb2.Status(code=plugin.code, message=f"{plugin.error}{skip}")
        )
    return message


def _platform(text: str | None) -> platform_pb2.Platform:
    """``os/arch[/variant]``, or this machine's."""
    if text is None:
        here = host()
        return platform_pb2.Platform(
            os=here.os, architecture=here.architecture, variant=here.variant
        )
    parts = (*text.split("/"), "", "")
    return platform_pb2.Platform(os=parts[0], architecture=parts[1], variant=parts[2])


def _field(plugin: pb.Plugin, path: tuple[str, ...]) -> str | None:
    match path:
        case ("type",):
            return plugin.type
        case ("id",):
            return plugin.id
        case ("capabilities", name):
            return name if name in plugin.capabilities else None
        case ("platforms", *_):
            return ",".join(f"{p.os}/{p.architecture}" for p in plugin.platforms) or None
        case _:
            return None


def _server_id(path: Path) -> str:
    """This installation's id, made at the first question and kept in the root."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fresh = str(uuid.uuid4())
        path.write_text(fresh)
        return fresh
