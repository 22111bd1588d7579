"""Mounts whose owners are seen through a user namespace, whether the OCI runtime can or not.

A root filesystem says so by ``X-mount.idmap`` (mount(8)). Not the mount itself is mapped, overlays
cannot be, but where it comes from: all its directories, lower and upper, are looked at through one
mapped clone of what they have in common. A volume says so by ``uidMappings`` (runtime-spec 1.1,
mounts). What is on the disk keeps the owners that it would have without a user namespace.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from cored import linux
from coreshim.server import INVALID, Failure

__all__ = ["applied", "volumes"]

_OPTION = "X-mount.idmap="
_DIRECTORIES = ("lowerdir=", "upperdir=", "workdir=")


@contextmanager
def applied(mounts: Sequence[Any], place: str) -> Iterator[Sequence[Any]]:
    """The mounts with the option carried out, for as long as it takes to mount them.

    ``b:0:FIRST:COUNT`` is understood: owners from 0 are those from FIRST. A directory is made in
    ``place`` meanwhile. OSError: no user namespaces, or a filesystem that cannot be mapped.
    """
    wanted = {o for mount in mounts for o in mount.options if o.startswith(_OPTION)}
    if not wanted:
        yield mounts
        return
    _, inside, first, count = wanted.pop().removeprefix(_OPTION).split(":")
    # the last line is for us: what an overlay makes for a moment, it makes as the host's root
    ids = f"{inside} {first} {count}\n{int(inside) + int(count)} 0 1\n"
    clone = os.path.join(place, "idmap")
    os.mkdir(clone, 0o711)
    namespace = -1
    mounted = False
    try:
        namespace = linux.user_namespace(ids)
        top = os.path.commonpath([path for mount in mounts for path in _directories(mount)])
        try:
            linux.clone_mapped(top, namespace, clone)
        except OSError as error:
            what = f"its owners cannot be mapped for a user namespace: {error.strerror}"
            raise OSError(error.errno, what, top) from error
        mounted = True
        for mount in mounts:
            _move(mount, top, clone)
        yield mounts
    finally:
        if namespace >= 0:
            os.close(namespace)
        if mounted:
            linux.unmount(clone, lazy=True)
        os.rmdir(clone)


def _directories(mount: Any) -> list[str]:
    if mount.type != "overlay":
        return [mount.source]
    return [
        path
        for option in mount.options
        if option.startswith(_DIRECTORIES)
        for path in option.partition("=")[2].split(":")
    ]


def _move(mount: Any, top: str, clone: str) -> None:
    """Let a mount come from the clone."""

    def moved(path: str) -> str:
        return os.path.normpath(os.path.join(clone, os.path.relpath(path, top)))

    options = []
    for option in mount.options:
        name, _, paths = option.partition("=")
        if mount.type == "overlay" and option.startswith(_DIRECTORIES):
            option = f"{name}={':'.join(moved(path) for path in paths.split(':'))}"
        if not option.startswith(_OPTION):
            options.append(option)
    mount.options = options
    if mount.type != "overlay":
        mount.source = moved(mount.source)


@contextmanager
def volumes(bundle: str) -> Iterator[None]:
    """Put mapped clones in the place of the volumes in ``config.json`` that want it.

    They are needed until the runtime has created the container. Failure: one cannot be mapped.
    """
    path = os.path.join(bundle, "config.json")
    with open(path, "rb") as file:
        text = file.read()
    if b'"uidMappings"' not in text:
        yield
        return
    spec = json.loads(text)
    with ExitStack() as stack:
        try:
            _replace(bundle, spec.get("mounts", ()), stack)
        except OSError as error:
            what = f"volume {error.filename}: cannot be mapped to the user namespace"
            raise Failure(INVALID, f"{what}: {error.strerror}") from error
        with open(f"{path}.new", "w") as changed:
            json.dump(spec, changed)
        os.replace(f"{path}.new", path)
        yield


def _replace(bundle: str, mounts: Sequence[dict[str, Any]], stack: ExitStack) -> None:
    namespaces: dict[str, int] = {}
    for number, mount in enumerate(mounts):
        maps = mount.pop("uidMappings", None)
        mount.pop("gidMappings", None)
        if not maps:
            continue
        ids = "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in maps)
        if ids not in namespaces:
            namespaces[ids] = linux.user_namespace(ids)
            stack.callback(os.close, namespaces[ids])
        source = os.path.join(bundle, mount["source"])
        mount["source"] = os.path.join(bundle, f"volume-{number}")
        _clone(source, namespaces[ids], mount["source"], stack)


def _clone(source: str, namespace: int, target: str, stack: ExitStack) -> None:
    if os.path.isdir(source):
        os.mkdir(target)
        stack.callback(os.rmdir, target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        stack.callback(os.unlink, target)
    linux.clone_mapped(source, namespace, target, recursive=True)
    stack.callback(linux.unmount, target, lazy=True)
