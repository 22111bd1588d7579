"""The client library of cored: a daemon's API in Python, here and over the network.

:class:`Client` waits for answers, :class:`AsyncClient` is awaited; both have the verbs of corectl,
in ``containers``, ``images``, ``builds``, ``volumes``, ``networks``, ``namespaces`` and ``system``.
Answers are frozen dataclasses (``cored.client.api.values``), errors those of :mod:`cored.errors`.

    >>> from cored.client import AsyncClient, Bind, Client, CommandFailed, Port
    >>> from cored.errors import NotFound
    >>> with Client(host) as client:
    ...     client.containers.run("busybox", ["sh", "-c", "echo $WORD"], env={"WORD": "hello"}).text
    'hello\\n'

What fails is said, with all that was written until then:

    >>> try:
    ...     client.containers.run("busybox", ["ls", "/nothing"])
    ... except CommandFailed as error:
    ...     error.output.stderr
    b'ls: /nothing: No such file or directory\\n'

Containers that stay, and commands in them:

    >>> web = client.containers.create("busybox", ["sleep", "1000"], name="web", labels={"a": "b"},
    ...                                memory=64 << 20, restart="on-failure:3", init=True)
    >>> client.containers.start("web")
    >>> client.containers.get("web").status
    'running'
    >>> client.containers.exec("web", ["tee", "/file"], input=b"data").stdout
    b'data'
    >>> client.containers.read_file("web", "/file")
    b'data'

The streams of a command, as :class:`subprocess.Popen` has them:

    >>> with client.containers.begin_exec("web", ["cat"], stdin=True) as cat:
    ...     cat.write(b"one")
    ...     cat.close_stdin()
    ...     list(cat), cat.wait()
    ([('stdout', b'one')], 0)
    >>> client.containers.remove("web", force=True)
    >>> client.containers.get("web")
    Traceback (most recent call last):
    ...
    cored.errors.NotFound: container 'web': not found (see: corectl ps -a)

The same, awaited; many at once:

    >>> import asyncio
    >>> async def several():
    ...     async with AsyncClient(host) as client:
    ...         runs = (client.containers.run("busybox", ["echo", word]) for word in ("a", "b"))
    ...         return [output.text for output in await asyncio.gather(*runs)]
    >>> asyncio.run(several())
    ['a\\n', 'b\\n']

Importing this package costs next to nothing: corectl, which stands on it, lives for milliseconds.
What is used is loaded when it is; grpcio is not needed at all (performance.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cored.client.aio.client import AsyncClient as AsyncClient
    from cored.client.api.images import Auth as Auth
    from cored.client.api.options import Bind as Bind
    from cored.client.api.options import Tmpfs as Tmpfs
    from cored.client.api.options import VolumeMount as VolumeMount
    from cored.client.api.values import CommandFailed as CommandFailed
    from cored.client.api.values import Port as Port
    from cored.client.client import Client as Client
    from cored.client.disconnected import Disconnected as Disconnected
    from cored.client.tls import TLS as TLS

_PLACES = {
    "AsyncClient": "aio.client",
    "Auth": "api.images",
    "Bind": "api.options",
    "Client": "client",
    "CommandFailed": "api.values",
    "Disconnected": "disconnected",
    "Port": "api.values",
    "TLS": "tls",
    "Tmpfs": "api.options",
    "VolumeMount": "api.options",
}

__all__ = [
    "TLS",
    "AsyncClient",
    "Auth",
    "Bind",
    "Client",
    "CommandFailed",
    "Disconnected",
    "Port",
    "Tmpfs",
    "VolumeMount",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'cored.client' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cored.client.{place}"), name)
