"""What ``corectl build`` was asked for: its options as the builder's message, its files."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from corectl.build_input import Input
from corectl.sizes import count
from cored.client.contexts import ContextDirectory, dockerignore, ignore_of
from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored._pb.cored.build.v1 import build_pb2 as pb

__all__ = ["Destination", "Given", "destination"]

_IMAGE = "docker-image://"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go: ``kind`` for the builder, ``path`` '' for the daemon's store."""

    kind: str = ""
    path: str = ""
    directory: bool = False

    @property
    def standard(self) -> bool:
        """Whether standard output is taken."""
        return self.path == "-"

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Takes the archive; a directory is filled when it has come whole."""
        if not self.path:
            yield io.BytesIO()
        elif self.standard:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif self.directory:
            import tarfile
            import tempfile

            with tempfile.TemporaryFile() as spool:
                yield spool
                spool.seek(0)
                Path(self.path).mkdir(parents=True, exist_ok=True)
                with tarfile.open(fileobj=spool, mode="r:") as tar:
                    tar.extractall(self.path, filter="tar")
        else:
            with open(self.path, "wb") as file:
                yield file


def destination(outputs: Sequence[str]) -> Destination:
    """From ``--output``: a directory, - for a tar, or type=TYPE,dest=PATH. InvalidArgument."""
    if not outputs:
        return Destination()
    if len(outputs) > 1:
        raise InvalidArgument("output: only one is possible")
    (text,) = outputs
    if text == "-":
        return Destination("tar", "-")
    if "=" not in text:
        return Destination("tar", text, directory=True)
    values = dict(part.partition("=")[::2] for part in text.split(","))
    kind, path = values.get("type", ""), values.get("dest", values.get("output", ""))
    match kind:
        case "image" | "docker" if not path:
            return Destination("image")
        case "local" if path:
            return Destination("tar", path, directory=True)
        case "oci" | "docker" | "tar":
            return Destination(kind, path or "-")
    raise InvalidArgument(
        f"output {text!r}: not understood", hint="type=oci|docker|tar|local,dest=PATH"
    )


class Given:
    """The options of one call, as click has them."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._stdin = Input()

    def __getitem__(self, name: str) -> Any:
        return self._options[name]

    @property
    def context(self) -> Path | None:
        """The directory; None for standard input and for what is elsewhere."""
        return None if self["context"] == "-" or self.remote else Path(self["context"])

    @property
    def remote(self) -> bool:
        """Whether the builder fetches the main context."""
        return _elsewhere(self["context"])

    @property
    def archived(self) -> bool:
        """Whether standard input is the main context, as a tar archive."""
        if self["context"] != "-" or self["dockerfile"] == "-":
            return False
        return self._stdin.archived

    @property
    def inside(self) -> str:
        """Where in a context that is not here the Dockerfile is, '' for one that is here."""
        away = (self.remote and self["dockerfile"] != "-") or self.archived
        return str(self["dockerfile"] or "Dockerfile") if away else ""

    def dockerfile(self) -> tuple[str, str]:
        """Its text ('' when it is in a context elsewhere), and what errors call it. NotFound."""
        if self.inside:
            return "", self.inside
        if self["dockerfile"] == "-" or (self["context"] == "-" and not self["dockerfile"]):
            return self._stdin.text, "-"
        path = self._dockerfile()
        try:
            return path.read_text(), self["dockerfile"] or "Dockerfile"
        except FileNotFoundError as error:
            raise NotFound(
                f"Dockerfile {str(path)!r}: not found", hint="name it with -f"
            ) from error

    def _dockerfile(self) -> Path:
        """As a path from here, else in the context."""
        path = Path(self["dockerfile"] or "Dockerfile")
        if self.context is not None and (not self["dockerfile"] or not path.exists()):
            return self.context / path
        return path

    def dockerignore(self) -> str:
        if self.context is None:
            return ""
        return dockerignore(self.context, None if self["dockerfile"] == "-" else self._dockerfile())

    def directories(self) -> Iterator[ContextDirectory]:
        """The contexts that are directories here."""
        if self.context is not None:
            yield ContextDirectory("", self.context, ignore_of(self.dockerignore()))
        for name, place in self._contexts():
            if not place.startswith(_IMAGE) and not _elsewhere(place):
                ignore = ignore_of(dockerignore(Path(place), None))
                yield ContextDirectory(name, Path(place), ignore)

    def archives(self) -> Iterator[tuple[str, bytes]]:
        """The main context, piece by piece, when it comes from standard input."""
        for data in self._stdin.pieces() if self.archived else ():
            yield "", data

    def _contexts(self) -> list[tuple[str, str]]:
        found = []
        for text in self["contexts"]:
            name, equal, place = text.partition("=")
            if not equal or not name or not place:
                raise InvalidArgument(f"build context {text!r}: not NAME=PLACE")
            if "://" in place and not place.startswith(_IMAGE) and not _elsewhere(place):
                raise InvalidArgument(
                    f"build context {text!r}: unknown kind",
                    hint="a directory, docker-image://IMAGE, or a URL of git or of a tar",
                )
            found.append((name, place))
        return found

    def message(self, output: str) -> pb.BuildOptions:
        """All of it for the builder. InvalidArgument, NotFound."""
        from corectl.credentials import auths_for
        from cored._pb.cored.build.v1 import build_pb2 as pb

        text, name = self.dockerfile()
        contexts = self._contexts()
        images = {n: p.removeprefix(_IMAGE) for n, p in contexts if p.startswith(_IMAGE)}
        remotes = {n: p for n, p in contexts if _elsewhere(p)}
        if self.remote:
            remotes[""] = self["context"]
        named = [n for n, p in contexts if n not in images and n not in remotes]
        if self.archived:
            named.append("")
        if self.context is not None:
            if not self.context.is_dir():
                raise NotFound(f"context {str(self.context)!r}: no such directory")
            named.append("")
        return pb.BuildOptions(
            dockerfile=text, dockerfile_name=name, target=self["target"], args=self.args(),
            tags=self["tags"], labels=_pairs("label", self["labels"]),
            platform=",".join(self["platforms"]),
            no_cache=self["no_cache"], pull=self["pull"], secrets=self._secrets(), ssh=self._ssh(),
            named_images=images, named_contexts=named, network=self["network"],
            memory_limit=count(self["memory"]), milli_cpus=int(self["cpus"] * 1000),
            timeout=self["timeout"], output=output, push=self["push"],
            auths=auths_for(_references(text, self["tags"])),
            dockerignore=self.dockerignore(), add_hosts=self["add_hosts"],
            allow=self["allow"], remote_contexts=remotes, dockerfile_path=self.inside,
        )  # fmt: skip

    def args(self) -> dict[str, str]:
        """The arguments with their values: given, of the environment, and proxies."""
        from corectl.docker_config import DockerConfig

        found = DockerConfig.load().proxies()
        if "SOURCE_DATE_EPOCH" in os.environ:
            found["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
        for text in self["args"]:
            name, equal, value = text.partition("=")
            if equal:
                found[name] = value
            elif name in os.environ:
                found[name] = os.environ[name]
        return found

    def _secrets(self) -> dict[str, bytes]:
        found = {}
        for text in self["secrets"]:
            values = dict(part.partition("=")[::2] for part in text.split(","))
            source = values.get("src") or values.get("source") or ""
            id = values.get("id") or Path(source).name
            variable = values.get("env", "")
            if not id:
                raise InvalidArgument(f"secret {text!r}: has no id", hint="id=ID,src=FILE")
            if source:
                found[id] = Path(source).read_bytes()
            elif (variable or id) in os.environ:
                found[id] = os.environb[os.fsencode(variable or id)]
            else:
                raise NotFound(f"secret {id!r}: neither a file nor a variable of that name")
        return found

    def _ssh(self) -> dict[str, str]:
        found = {}
        for text in self["ssh"]:
            id, _, place = text.partition("=")
            place = place or os.environ.get("SSH_AUTH_SOCK", "")
            if not place or not Path(place).is_socket():
                raise NotFound(f"ssh {text!r}: no agent", hint="SSH_AUTH_SOCK, or ID=SOCKET")
            found[id] = os.path.realpath(place)
        return found

    def told(self, result: pb.Result) -> None:
        """Write the files that were asked for."""
        if self["iidfile"]:
            Path(self["iidfile"]).write_text(result.config_digest or result.target.digest)
        if self["metadata_file"]:
            import json

            target = result.target
            document = {
                "containerimage.config.digest": result.config_digest,
                "containerimage.digest": target.digest,
                "containerimage.descriptor": {
                    "mediaType": target.media_type, "digest": target.digest, "size": target.size,
                },
                "image.name": ",".join(result.names),
            }  # fmt: skip
            Path(self["metadata_file"]).write_text(json.dumps(document, indent=2) + "\n")


def _elsewhere(place: str) -> bool:
    from cored_service_build.dockerfile.urls import is_git, is_url

    return is_git(place) or is_url(place)


def _references(dockerfile: str, tags: Sequence[str]) -> list[str]:
    """Names whose registries may want to know who asks; those with variables cannot be told."""
    from cored.oci.reference import parse

    found = []
    froms = re.findall(r"^FROM\s+(?:--\S+\s+)*(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE)
    for word in [*tags, *froms]:
        try:
            parse(word)
        except InvalidArgument:
            continue
        found.append(word)
    return found


def _pairs(what: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name:
            raise InvalidArgument(f"{what} {text!r}: has no name")
        found[name] = value
    return found
