"""The two ends of a transfer: messages of containerd.types.transfer as values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from cored._pb.containerd.types import platform_pb2
from cored._pb.containerd.types.transfer import imagestore_pb2, importexport_pb2, registry_pb2
from cored.abc.values import Platform, Typed
from cored.engine.naming import ExtraName, Naming
from cored.engine.registry import Access, Credentials
from cored.engine.selection import Selection, Unpack
from cored.engine.streams import Stream, Streams
from cored.errors import InvalidArgument, Unavailable, Unimplemented
from cored.oci import platforms

__all__ = ["End", "Exporting", "Importing", "Remote", "Stored", "end"]

# a user may have to type a password
_PATIENCE = 300.0
_REQUEST = registry_pb2.AuthRequest.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class End:
    """A source or destination; ``what`` names it, its streams end with the transfer."""

    what: str
    streams: tuple[Stream, ...] = field(default=(), kw_only=True)

    def close(self) -> None:
        """End its streams."""
        for stream in self.streams:
            stream.close()


@dataclass(frozen=True, slots=True)
class Remote(End):
    """An image in a registry."""

    reference: str
    access: Access


@dataclass(frozen=True, slots=True)
class Stored(End):
    """Images in the image store."""

    naming: Naming
    selection: Selection

    def names(self) -> list[str]:
        """As a source: the images that it names."""
        if any(extra.prefix for extra in self.naming.extras):
            raise Unimplemented("transfer: a source image cannot be given by a prefix")
        names = [self.naming.name, *(extra.name for extra in self.naming.extras)]
        found = [name for name in names if name]
        if not found:
            raise InvalidArgument("transfer: the source image has no name")
        return found


@dataclass(frozen=True, slots=True)
class Importing(End):
    """An archive that the client sends."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Exporting(End):
    """An archive that the client takes."""

    stream: Stream
    selection: Selection
    docker: bool
    foreign: bool


def end(message: AnyMessage, streams: Streams) -> End:
    """Read one end. Unimplemented for a type that no transfer knows; NotFound for a stream."""
    name = message.type_url.rpartition("/")[2]
    try:
        kind, read = _KINDS[name]
    except KeyError:
        raise Unimplemented(f"transfer: {name or 'nothing'} is not a known end of one") from None
    try:
        parsed = kind.FromString(message.value)
    except DecodeError as error:
        raise InvalidArgument(f"transfer: {name} is damaged: {error}") from error
    return read(parsed, streams)


def _remote(message: registry_pb2.OCIRegistry, streams: Streams) -> Remote:
    resolver = message.resolver
    if resolver.default_scheme not in ("", "http", "https"):
        raise InvalidArgument(f"registry scheme {resolver.default_scheme!r}: is not http or https")
    what = f"OCI Registry ({message.reference})"
    if not resolver.auth_stream:
        access = Access(
            headers=dict(resolver.headers),
            scheme=resolver.default_scheme,
            hosts=resolver.host_dir,
        )
        return Remote(what, message.reference, access)
    stream = streams.get(resolver.auth_stream)
    ask = _Asking(stream, message.reference, asyncio.get_running_loop())
    # a name may be used again by somebody else, a stream is not
    identity = f"{stream.id}-{id(stream)}"
    access = Access(
        ask, identity, dict(resolver.headers), resolver.default_scheme, resolver.host_dir
    )
    return Remote(what, message.reference, access, streams=(stream,))


def _stored(message: imagestore_pb2.ImageStore, streams: Streams) -> Stored:
    del streams
    extras = tuple(
        ExtraName(e.name, e.is_prefix, e.allow_overwrite, e.add_digest, e.skip_named_digest)
        for e in message.extra_references
    )
    selection = Selection(
        _platforms(message.platforms),
        message.manifest_limit,
        message.all_metadata,
        tuple(_unpack(each) for each in message.unpacks),
    )
    naming = Naming(message.name, dict(message.labels), extras)
    return Stored(f"Local Image Store ({message.name})", naming, selection)


def _importing(message: importexport_pb2.ImageImportStream, streams: Streams) -> Importing:
    stream = streams.get(message.stream)
    return Importing("Image Import Stream", stream, streams=(stream,))


def _exporting(message: importexport_pb2.ImageExportStream, streams: Streams) -> Exporting:
    stream = streams.get(message.stream)
    wanted = _platforms(message.platforms) or (platforms.host(),)
    return Exporting(
        "Image Export Stream",
        stream,
        Selection() if message.all_platforms else Selection(wanted),
        docker=not message.skip_compatibility_manifest,
        foreign=not message.skip_non_distributable,
        streams=(stream,),
    )


def _unpack(message: imagestore_pb2.UnpackConfiguration) -> Unpack:
    wanted = _platform(message.platform) if message.HasField("platform") else platforms.host()
    return Unpack(wanted, message.snapshotter)


def _platforms(messages: Sequence[platform_pb2.Platform]) -> tuple[Platform, ...]:
    return tuple(_platform(message) for message in messages)


def _platform(message: platform_pb2.Platform) -> Platform:
    return platforms.normalized(
        Platform(
            message.os,
            message.architecture,
            message.variant,
            message.os_version,
            tuple(message.os_features),
        )
    )


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks the client for credentials, from the threads that talk to the registry."""

    stream: Stream
    reference: str
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __call__(self, host: str) -> Credentials | None:
        return asyncio.run_coroutine_threadsafe(self._ask(host), self.loop).result()

    async def _ask(self, host: str) -> Credentials | None:
        request = registry_pb2.AuthRequest(host=host, reference=self.reference)
        async with self.turn:
            await self.stream.send(Typed(_REQUEST, request.SerializeToString()))
            try:
                async with asyncio.timeout(_PATIENCE):
                    answer = await self.stream.receive()
            except TimeoutError:
                raise Unavailable(f"registry {host}: the client sent no credentials") from None
        if answer is None:
            return None
        try:
            given = registry_pb2.AuthResponse.FromString(answer.value)
        except DecodeError as error:
            raise InvalidArgument(f"registry {host}: credentials are damaged") from error
        match given.authType:
            case registry_pb2.CREDENTIALS:
                return Credentials(given.username, given.secret)
            case registry_pb2.REFRESH if given.secret:
                return Credentials(token=given.secret)
            case registry_pb2.HEADER:
                return Credentials(header=given.secret)
            case _:
                return None


_Read = Callable[[Any, Streams], End]
_KINDS: dict[str, tuple[type[Message], _Read]] = {
    kind.DESCRIPTOR.full_name: (kind, read)
    for kind, read in (
        (registry_pb2.OCIRegistry, _remote),
        (imagestore_pb2.ImageStore, _stored),
        (importexport_pb2.ImageImportStream, _importing),
        (importexport_pb2.ImageExportStream, _exporting),
    )
}
