"""Base images made from the Debian packages that are installed here, without a download."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["base_image"]

# nothing that runs needs them
_LEFT_OUT = re.compile(
    r"/usr/share/(doc|man|locale|info|lintian|bug|bash-completion|gdb|perl5?)(/|$)"
    r"|/usr/include/node/|/(docs|man|test|idlelib|lib2to3)/|/lto1$|san(_preinit)?\.(a|o|so)$"
)
_DIRECTORIES = ("bin", "sbin", "lib", "lib64")


def base_image(
    target: Path,
    name: str,
    packages: Sequence[str],
    *,
    without: Sequence[str] = (),
    trees: Sequence[str] = (),
) -> Path:
    """A docker-archive ``target`` of busybox, ``packages`` and what they depend on, all as they are
    installed on this machine, but for the packages ``without``; and whole directories ``trees``."""
    layer = target.with_suffix(".layer")
    listed = {path for each in _needed(packages, without) for path in _files(each)}
    whole = {str(path) for tree in trees for path in Path(tree).rglob("*") if not path.is_dir()}
    files = sorted({path for path in listed if not path.startswith((*trees, "//"))} | whole)
    with tarfile.open(layer, "w") as tar:
        _skeleton(tar)
        for path in files:
            tar.add(path, path.lstrip("/"), recursive=False, filter=_plain)
        tar.add("/bin/busybox", "usr/bin/busybox", filter=_plain)
        there = {os.path.basename(path) for path in files if path.startswith("/usr/bin/")}
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, check=True)
        for applet in {*applets.stdout.decode().split()} - {"busybox", *there}:
            _link(tar, f"usr/bin/{applet}", "busybox")
    with layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": _said("dpkg", "--print-architecture").strip(), "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as tar:
        for path, document in (("manifest.json", manifest), ("config.json", config)):
            _file(tar, path, json.dumps(document).encode())
        tar.add(layer, "layer.tar")
    layer.unlink()
    return target


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@functools.cache
def _dependencies() -> dict[str, list[str]]:
    """What each installed package depends on, alternatives together."""
    found = {}
    form = "${Package}\t${Pre-Depends}\t${Depends}\n"
    for line in _said("dpkg-query", "-W", "-f", form).splitlines():
        name, *needs = line.split("\t")
        found[name] = [part for text in needs for part in text.split(",") if part.strip()]
    return found


def _needed(packages: Sequence[str], without: Sequence[str]) -> list[str]:
    known, found = _dependencies(), set[str]()
    pending = [name for name in packages if name in known]  # npm: others' nodejs has its own
    while pending:
        name = pending.pop()
        if name in found or name in without:
            continue
        found.add(name)
        for alternatives in known[name]:
            names = [re.split(r"[\s(:]", text.strip())[0] for text in alternatives.split("|")]
            pending += [next((each for each in names if each in known), name)]
    return sorted(found)


def _files(package: str) -> Iterator[str]:
    """Where the files really are: /lib is a link to /usr/lib."""
    for line in _said("dpkg", "-L", package).splitlines():
        if not line.startswith("/") or _LEFT_OUT.search(line) or not os.path.lexists(line):
            continue
        if os.path.isdir(line) and not os.path.islink(line):
            continue  # directories come with their files
        head, _, rest = line[1:].partition("/")
        yield f"/usr/{head}/{rest}" if head in _DIRECTORIES else line


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    if member.islnk():  # a second name: the first one's file
        member.type, member.linkname = tarfile.SYMTYPE, f"/{member.linkname}"
    return member


def _skeleton(tar: tarfile.TarFile) -> None:
    for name in _DIRECTORIES:
        _link(tar, name, f"usr/{name}")
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("var/tmp", 0o1777), ("etc", 0o755)):
        made = tarfile.TarInfo(name)
        made.type, made.mode = tarfile.DIRTYPE, mode
        tar.addfile(made)
    _file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    _file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, target
    tar.addfile(made)


def _file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    made = tarfile.TarInfo(name)
    made.size = len(data)
    tar.addfile(made, io.BytesIO(data))
