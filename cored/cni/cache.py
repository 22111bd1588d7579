"""What is kept of attachments: a file for each, from before its ADD until after its DEL.

The files are those of libcni (kind ``cniCacheV1``), so that its tools find them too.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cored import log
from cored.abc.network import Attachment
from cored.cni import lists
from cored.errors import InvalidArgument, from_os_error

__all__ = ["Cache"]

_KIND = "cniCacheV1"


@dataclass(frozen=True, slots=True)
class Cache:
    """Attachments in ``directory``, which is made with the first."""

    directory: Path

    def tidy(self) -> None:
        """Remove what a crash has left half-written; nobody may write meanwhile."""
        for path in self.directory.glob(".*.new"):
            path.unlink()

    def put(self, attachment: Attachment) -> None:
        """Keep an attachment in one step; durably when nothing of it is there yet.

        What it comes to may be lost with the machine: then all but its addresses is lost, too,
        and those are found by its id.
        """
        path = self._path(attachment)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(_encoded(attachment), file)
                if not attachment.finished and not attachment.result:
                    file.flush()
                    os.fdatasync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise from_os_error(f"network attachment {path}", error) from error

    def get(self, attachment: Attachment) -> Attachment | None:
        """What is kept of it."""
        return self._read(self._path(attachment))

    def remove(self, attachment: Attachment) -> None:
        """Forget it; fine when it is not kept."""
        self._path(attachment).unlink(missing_ok=True)

    def all(self) -> Iterator[Attachment]:
        """All that are kept."""
        if not self.directory.exists():
            return
        for path in sorted(self.directory.iterdir()):
            if path.name.startswith("."):
                continue
            found = self._read(path)
            if found is not None:
                yield found

    def _path(self, attachment: Attachment) -> Path:
        """InvalidArgument for parts that are no names, and so no part of a path."""
        lists.check_name("container", attachment.container_id)
        parts = (attachment.network.name, attachment.container_id, attachment.ifname)
        if "/" in attachment.ifname or not attachment.ifname:
            raise InvalidArgument(f"interface {attachment.ifname!r}: invalid name")
        return self.directory / "-".join(parts)

    def _read(self, path: Path) -> Attachment | None:
        try:
            return _decoded(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, InvalidArgument) as error:
            log.get("cni").warning("a kept attachment cannot be read", path=str(path), error=error)
            return None


def _encoded(attachment: Attachment) -> dict[str, Any]:
    config = json.dumps(lists.document(attachment.network)).encode()
    return {
        "kind": _KIND,
        "containerId": attachment.container_id,
        "config": base64.b64encode(config).decode(),
        "ifName": attachment.ifname,
        "networkName": attachment.network.name,
        "netns": attachment.netns,
        "cniArgs": [[key, value] for key, value in attachment.args.items()],
        "capabilityArgs": dict(attachment.capabilities),
        "result": dict(attachment.result),
        **({} if attachment.finished else {"unfinished": True}),
    }


def _decoded(table: Mapping[str, Any]) -> Attachment:
    if table["kind"] != _KIND:
        raise ValueError(f"kind {table['kind']!r}")
    return Attachment(
        container_id=table["containerId"],
        netns=table.get("netns") or "",
        ifname=table["ifName"],
        network=lists.parse(base64.b64decode(table["config"])),
        args={key: value for key, value in table.get("cniArgs") or ()},
        capabilities=table.get("capabilityArgs") or {},
        result=table.get("result") or {},
        finished=not table.get("unfinished"),
    )
