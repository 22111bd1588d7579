"""One corpus of Dockerfiles, built here, by buildah and by dockerd's BuildKit: the same images.

Differences that stay have their reason beside them.
"""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builds import Entry, Shop, tree_of_tar
from tests.daemons import Daemon
from tests.docker import Docker, dockerd

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Case:
    """A Dockerfile; ``left`` are places for mounts that Debian's BuildKit does not take away."""

    text: str
    words: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """What buildah's config has otherwise: CMD knows no SHELL, ENV no other escape than \\."""
    buildah: bool = True
    """Not where ``buildah from``, which shows its tree, would run triggers."""
    docker: bool = True
    """Not where BuildKit would fetch the syntax that the first line names."""


def packed() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("in", "sub/deep"):
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.mode = len(name), 7, 0o640
            tar.addfile(member, io.BytesIO(name.encode()))
    return out.getvalue()


FILES: dict[str, str | bytes] = {
    "a.tar": packed(),
    "one": "1\n", "two.txt": "2\n", "dir/in": "in\n", "dir/deep/er": "er\n", "dir/run.sh": "#!x\n",
    ".dockerignore": "ignored\n*.skip\n", "ignored/x": "x", "y.skip": "y",
}  # fmt: skip
CORPUS = {
    "config": Case(
        'FROM busybox\nENV A=1 B="two words" C=$A\nENV D a b  c\nLABEL x=1 y="2 3"\n'
        'EXPOSE 80 9/udp\n'
        'VOLUME ["/v1", "/v2"]\nUSER 5:6\nSTOPSIGNAL SIGUSR1\nCMD ["a", "b"]\nENTRYPOINT ["e"]\n',
    ),
    "shell-forms": Case("FROM busybox\nENTRYPOINT echo $HOME\nCMD ls -l\n"),
    "entrypoint-resets": Case('FROM busybox\nENTRYPOINT ["x"]\n'),
    "shell": Case(
        'FROM busybox\nSHELL ["/bin/busybox", "ash", "-c"]\nRUN echo a > /a\nCMD x y\n',
        other=("Cmd",),
    ),
    "copy-file": Case("FROM busybox\nCOPY one /\nCOPY one /renamed\nCOPY one /new/dir/\n"),
    "copy-several": Case("FROM busybox\nCOPY one two.txt /several/\nCOPY *.txt d* /globbed/\n"),
    "copy-tree": Case("FROM busybox\nCOPY dir /to\nCOPY dir/ /to2/\nCOPY . /all\n"),
    "copy-over": Case(
        "FROM busybox\nCOPY dir /to\nCOPY one /to/in\nCOPY dir/deep /to/\n"
    ),
    "copy-relative": Case(
        "FROM busybox\nWORKDIR /w/x\nCOPY one .\nCOPY two.txt ../up\nWORKDIR y\n"
    ),
    "copy-chown": Case("FROM busybox\nCOPY --chown=3:4 dir /d\nCOPY --chown=nobody one /n\n"),
    "copy-chown-group": Case(
        "FROM busybox\nCOPY --chown=nobody:nogroup one /new/sub/n\n"
    ),
    "copy-chmod": Case("FROM busybox\nCOPY --chmod=600 one /x\n"),
    "copy-json": Case('FROM busybox\nCOPY ["one", "two.txt", "/json dir/"]\n'),
    "copy-args": Case("FROM busybox\nARG F=one\nENV T=/there\nCOPY ${F} ${T}/${F:-x}\n"),
    "add-tree": Case("FROM busybox\nADD dir /d\nADD one two.txt /f/\n"),
    "run-files": Case(
        "FROM busybox\nRUN mkdir -p /a/b && echo x > /a/b/c && chmod 4750 /a/b/c && ln -s c /a/b/l "
        "&& chown 7:8 /a/b && mkfifo /a/p && ln /a/b/c /a/hard\n"),
    "run-removes": Case(
        "FROM busybox\nCOPY dir /d\nRUN rm -r /d/deep /root && echo n > /d/in\n"
    ),
    "run-exec": Case('FROM busybox\nRUN ["touch", "/with $HOME"]\n'),
    "run-as": Case(
        "FROM busybox\nRUN mkdir -m 777 /w\nUSER 12:34\nRUN touch /w/mine\n"
        "WORKDIR /w\nRUN pwd > p\n"
    ),
    "args": Case(
        "ARG BASE=busybox\nFROM $BASE\nARG V=d\nARG W\nENV E=${V}-${W:-none}\n"
        "RUN echo $V $W > /v\n",
        words=("--build-arg", "W=given")),
    "stages": Case(
        "FROM busybox AS one\nRUN mkdir /o && echo 1 > /o/f && chown 9:9 /o/f\n"
        "FROM busybox AS unused\nRUN exit 1\nFROM one AS two\nRUN echo 2 >> /o/f\nFROM scratch\n"
        "COPY --from=two /o /o\nCOPY --from=0 /bin/busybox /bin/busybox\n",
    ),
    "target": Case(
        "FROM busybox AS one\nRUN echo 1 > /one\nFROM busybox AS two\nRUN echo 2 > /two\n",
        words=("--target", "one"),
    ),
    "from-image": Case("FROM scratch\nCOPY --from=busybox /etc/passwd /p/\n"),
    "onbuild": Case(
        "FROM busybox\nONBUILD RUN echo later\nONBUILD COPY . /x\n", buildah=False
    ),
    "healthcheck": Case("FROM busybox\nHEALTHCHECK --interval=30s --retries=2 CMD wget -q x\n"),
    "workdir": Case("FROM busybox\nWORKDIR /a/b\nWORKDIR c\nWORKDIR /etc\nRUN pwd > /p\n",
        ),
    "continuation": Case(
        "# syntax=x\n\nFROM busybox\n# comment\nRUN echo a \\\n  # inside\n"
        "  b > /x \\\n  && echo c >> /x\n",
        docker=False,
    ),
    "escape": Case(
        "# escape=`\nFROM busybox\nRUN echo a `\n  b > /x\nENV P=c:`$x\n",
        other=("Env",),
    ),
    "mounts": Case(
        "FROM busybox\nRUN --mount=type=bind,target=/m,source=dir cat /m/in > /x\n"
        "RUN --mount=type=tmpfs,target=/t echo > /t/x\n"
        "RUN --mount=type=cache,target=/c touch /c/y\n",
        left=("c", "m", "t"),
    ),
    "mount-from": Case(
        "FROM busybox AS one\nRUN mkdir /o && echo 1 > /o/f\nFROM busybox\n"
        "RUN --mount=type=bind,from=one,source=/o,target=/m cat /m/f > /x && ls /m >> /x\n",
        left=("m",),
    ),
    "add-archive": Case("FROM busybox\nADD a.tar /unpacked/\nCOPY a.tar /kept/\n"),
    "add-chown": Case("FROM busybox\nADD --chown=8:9 dir one /d/\n"),
    "platform-args": Case(
        "FROM busybox\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETVARIANT\nARG BUILDOS\n"
        "RUN echo $TARGETPLATFORM $TARGETARCH $TARGETVARIANT $BUILDOS > /p\n"
    ),
    "user-workdir": Case("FROM busybox\nUSER 5:6\nWORKDIR /made/here\nUSER 0\nRUN pwd > /p\n"),
    "from-stage": Case(
        "FROM busybox AS a\nENV X=1\nRUN touch /a\nFROM a AS b\nENV Y=$X\nCMD b\nFROM b\nUSER 3\n"
    ),
    "arg-scope": Case(
        "ARG G=global\nFROM busybox AS one\nRUN echo \"[$G]\" > /one\nFROM one\nARG G\nARG L=$G-x\n"
        "RUN echo \"[$G] [$L]\" > /two\n"
    ),
    "author": Case("FROM busybox\nMAINTAINER Some One\n"),
    "modifiers": Case(
        "FROM busybox\nENV A=x\nENV B=${A:+set} C=${Z:-default} D=\\$A E='$A' F=\"$A\"\n"
        "USER ${Z:-root}\n"
    ),
}  # fmt: skip
_MOUNTED = ("hosts", "hostname", "resolv.conf", "mtab")


class Buildah:
    """Debian's, on a store of its own that knows busybox."""

    def __init__(self, place: Path, busybox: Path) -> None:
        self._place = place
        self._policy = place / "policy.json"
        place.mkdir()
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self("pull", "--signature-policy", self._policy, f"docker-archive:{busybox}")

    def __call__(self, *words: str | Path) -> str:
        store = ("--root", self._place / "root", "--runroot", self._place / "run")
        command = ["buildah", *store, "--storage-driver", "overlay", *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def build(self, context: Path, *words: str) -> tuple[dict[str, Entry], dict[str, Any]]:
        """The tree and the config."""
        self(
            "bud", "--isolation", "chroot", "--signature-policy", self._policy, "--pull-never",
            "--format", "docker", "-t", "made", *words, context,
        )  # fmt: skip
        container = self("from", "--pull-never", "--signature-policy", self._policy, "made")
        tree = tree_of(Path(self("mount", container)))
        config = json.loads(self("inspect", "--type", "image", "made"))["Docker"]["config"]
        self("rm", container)
        return tree, config


def tree_of(root: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind, content = "other", ""
        if stat.S_ISDIR(status.st_mode):
            kind = "directory"
        elif stat.S_ISLNK(status.st_mode):
            kind, content = "link", os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            kind, content = "file", path.read_bytes().decode("latin-1")
        mode = stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(root))] = (kind, mode, status.st_uid, status.st_gid, content)
    return found


def by_docker(
    docker: Docker, context: Path, *words: str
) -> tuple[dict[str, Entry], dict[str, Any]]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    docker("build", "-q", "-t", "made", *words, str(context), env=environment)
    id = docker("create", "made", "x").stdout.strip()
    exported = docker.place / "exported.tar"
    docker("export", "-o", str(exported), id)
    docker("rm", id)
    tree = tree_of_tar(exported.read_bytes())
    for path in ("dev", "proc", "sys", *(f"etc/{name}" for name in _MOUNTED)):
        for name in [p for p in tree if p == path or p.startswith(f"{path}/")]:
            del tree[name]  # where docker will mount something
    tree.pop(".dockerenv", None)
    return tree, docker.inspect("made")["Config"]


@pytest.fixture(scope="module")
def buildah(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    return Buildah(tmp_path_factory.mktemp("buildah") / "store", busybox)


@pytest.fixture(scope="module")
def docker(daemon: Daemon, busybox: Path) -> Iterator[Docker]:
    with dockerd(daemon) as running:
        running("load", "-i", str(busybox))
        yield running


@pytest.mark.parametrize("name", CORPUS)
def test_a_build_is_what_others_make_of_it(
    name: str, daemon: Daemon, buildah: Buildah, docker: Docker, tmp_path: Path
) -> None:
    case, shop = CORPUS[name], Shop(daemon, tmp_path)
    context = shop.context(case.text, {**FILES})
    (context / "dir/run.sh").chmod(0o755)
    (context / "dir/link").symlink_to("in")
    others = {}
    with ThreadPoolExecutor(2) as beside:
        if case.buildah:
            others["buildah"] = beside.submit(buildah.build, context, *case.words)
        ours = shop.tree(context, "-t", "compared", *case.words)
        config = shop.config("compared")
        if case.docker:
            others["docker"] = beside.submit(by_docker, docker, context, *case.words)
    for who, building in others.items():
        tree, theirs = building.result()
        assert differing(ours, comparable(tree, ours, who, case)) == {}, who
        without = case.other if who == "buildah" else ()
        assert settings(config, without) == settings(theirs, without), who


def comparable(
    tree: dict[str, Entry], ours: dict[str, Entry], who: str, case: Case
) -> dict[str, Entry]:
    """Theirs, without what is different for a reason."""
    found = dict(tree)
    if who == "buildah":
        for path in ("proc", "sys", "dev", "run", *(f"etc/{name}" for name in _MOUNTED)):
            for each in [p for p in found if p == path or p.startswith(f"{path}/")]:
                del found[each]  # where it mounted something and left what it had made
    if who == "docker":
        for path in case.left:
            assert found.pop(path)[0] == "directory"
        if "etc" not in ours and not any(path.startswith("etc/") for path in found):
            del found["etc"]  # its containers get files there
    return found


def differing(ours: dict[str, Entry], theirs: dict[str, Entry]) -> dict[str, Any]:
    """Paths that are not the same; kinds that tars and file systems both know only."""
    return {
        path: (ours.get(path), theirs.get(path))
        for path in sorted(ours.keys() | theirs.keys())
        if _shown(ours.get(path)) != _shown(theirs.get(path))
    }


def _shown(entry: Entry | None) -> Entry | None:
    if entry is None or entry[0] != "link":
        return entry
    return ("link", 0, *entry[2:])


def settings(config: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a container is made from."""
    names = ("Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal",
             "Healthcheck", "OnBuild", "Shell")  # fmt: skip
    found = {name: config.get(name) or None for name in names if name not in without}
    found["WorkingDir"] = config.get("WorkingDir") or "/"
    found["Env"] = [] if "Env" in without else sorted(config.get("Env") or [])
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    return {**found, "Labels": labels}
