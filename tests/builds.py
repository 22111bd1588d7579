"""Builds by corectl in a namespace of their own, and what came of them."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemons import Daemon

__all__ = ["Entry", "Shop", "tree_of_tar"]

Entry = tuple[str, int, int, int, str]
"""Type, mode, uid, gid, and content or target of a link."""


def tree_of_tar(data: bytes) -> dict[str, Entry]:
    """All files of a tar by path; hard links with the content that they share."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            path = member.name.removeprefix("./").rstrip("/")
            kind, content = "file", ""
            if member.isdir():
                kind = "directory"
            elif member.isfifo() or member.isdev():
                kind = "other"
            elif member.issym():
                kind, content = "link", member.linkname
            elif member.islnk():
                found[path] = found[member.linkname.removeprefix("./")]
                continue
            elif member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                content = file.read().decode("latin-1")
            found[path] = (kind, stat.S_IMODE(member.mode), member.uid, member.gid, content)
    found.pop("", None)
    found.pop(".", None)
    return found


@dataclass
class Shop:
    """Contexts below ``place``; images in the namespace ``name``."""

    daemon: Daemon
    place: Path
    name: str = "default"

    def context(self, dockerfile: str, files: dict[str, str | bytes] | None = None) -> Path:
        """A directory with a Dockerfile and files (a name with / at its end is a directory)."""
        root = self.place / f"context-{len(list(self.place.iterdir()))}"
        root.mkdir()
        (root / "Dockerfile").write_text(dockerfile)
        for name, content in (files or {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content)
        return root

    def __call__(self, *words: str | Path, code: int = 0, **options: Any) -> str:
        """corectl's output; with a ``code`` what it says when it fails."""
        done = self.daemon.corectl("-n", self.name, *map(str, words), **options)
        assert done.returncode == code, (words, done.stdout, done.stderr, self.daemon.log[-2000:])
        return (done.stderr if code else done.stdout).decode()

    def build(self, context: Path, *words: str | Path, code: int = 0, **options: Any) -> str:
        """What build says on stderr, plain."""
        done = self.daemon.corectl(
            "-n", self.name, "build", "--progress=plain", str(context), *map(str, words), **options
        )
        assert done.returncode == code, (done.stdout, done.stderr.decode(), self.daemon.log[-3000:])
        return (done.stdout if "--explain" in words else done.stderr).decode()

    def tree(self, context: Path, *words: str) -> dict[str, Entry]:
        """The files of the image."""
        done = self.daemon.corectl(
            "-n", self.name, "build", "-q", "-o", "type=tar,dest=-", str(context), *words
        )
        assert done.returncode == 0, (done.stderr.decode(), self.daemon.log[-2000:])
        return tree_of_tar(done.stdout)

    def config(self, name: str) -> dict[str, Any]:
        """The config's ``config``."""
        (found,) = json.loads(self("image", "inspect", name))
        return dict(found["Config"])

    def ran(self, name: str, *words: str) -> str:
        """What a container of the image prints."""
        return self("run", "--rm", "--network", "none", name, *words)
