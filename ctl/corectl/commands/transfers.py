"""pull, push, save, load and image import: images on the move."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from corectl import output
from corectl.session import Session
from cored.errors import InvalidArgument

__all__ = ["import_", "load", "pull", "push", "save"]

platform_option = click.option("--platform", default="", help="os/arch[/variant] of the image.")
all_platforms_option = click.option("--all-platforms", is_flag=True, help="All of its platforms.")
snapshotter_option = click.option("--snapshotter", default="", help="Snapshotter to unpack with.")


@click.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@platform_option
@all_platforms_option
@snapshotter_option
@click.option("-q", "--quiet", is_flag=True, help="Only the names at the end.")
@click.pass_obj
def pull(
    session: Session,
    references: tuple[str, ...],
    platform: str,
    all_platforms: bool,
    snapshotter: str,
    quiet: bool,
) -> int:
    """Fetch images from their registries and unpack them, all at the same time."""
    from corectl import progress
    from corectl.credentials import auths_for
    from corectl.streams import Streams
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    _one_of(platform, all_platforms)
    references = tuple(dict.fromkeys(references))
    auths = auths_for(references)
    requests = [
        pb.PullRequest(
            reference=reference,
            platform=platform,
            snapshotter=snapshotter,
            auths=auths,
            all_platforms=all_platforms,
        )
        for reference in references
    ]
    streams = Streams(session, [session.workloads.pull(request) for request in requests])
    for step in progress.show(streams, quiet=quiet):
        if not quiet:
            name = output.familiar(step.image.name)
            state = "Downloaded newer image" if step.changed else "Image is up to date"
            click.echo(f"Digest: {step.image.target.digest}\nStatus: {state} for {name}")
        click.echo(step.image.name)
    return streams.finished()


@click.command()
@click.argument("reference", metavar="IMAGE")
@click.argument("destination", metavar="[NAME]", required=False, default="")
@platform_option
@all_platforms_option
@click.option("-q", "--quiet", is_flag=True, help="Only the name at the end.")
@click.pass_obj
def push(
    session: Session,
    reference: str,
    destination: str,
    platform: str,
    all_platforms: bool,
    quiet: bool,
) -> None:
    """Send an image to its registry, or under another NAME to that one's.

    Of an image that is here for one of its platforms only, that one is sent.
    """
    from corectl import progress
    from corectl.credentials import auths_for
    from cored._pb.cored.workloads.v1 import images_pb2

    _one_of(platform, all_platforms)
    where = destination
    if not where:
        where = session.workloads.inspect_image(reference).name
    request = images_pb2.PushRequest(
        reference=reference,
        destination=destination,
        platform=platform,
        all_platforms=all_platforms,
        auths=auths_for([where]),
    )
    for step in progress.show(session.workloads.push(request), quiet=quiet):
        if quiet:
            click.echo(step.image.name)
        else:
            target = step.image.target
            name = output.familiar(step.image.name)
            click.echo(f"{name}: digest: {target.digest} size: {target.size}")


def _one_of(platform: str, all_platforms: bool) -> None:
    if platform and all_platforms:
        raise click.UsageError("--platform and --all-platforms exclude each other")


@click.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", "file", default="", help="File, in place of standard output.")
@click.option("--platform", "platforms", multiple=True, help="Only these; else all that are here.")
@click.pass_obj
def save(
    session: Session, references: tuple[str, ...], file: str, platforms: tuple[str, ...]
) -> None:
    """Write images to a tar: an OCI layout that docker load reads as well.

    The same images give the same bytes, whenever and wherever.
    """
    pieces = session.workloads.export(references, platforms)
    if file and file != "-":
        _written(pieces, Path(file))
        return
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: name a file with --output")
    for piece in pieces:
        sys.stdout.buffer.write(piece)


def _written(pieces: Iterator[bytes], path: Path) -> None:
    """The whole file or none; devices and pipes as they are."""
    if path.exists() and not path.is_file():
        with path.open("wb") as out:
            out.writelines(pieces)
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("xb") as out:
            out.writelines(pieces)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@click.command()
@click.option("-i", "--input", "file", default="-", help="File, in place of standard input.")
@platform_option
@snapshotter_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def load(session: Session, file: str, platform: str, snapshotter: str, quiet: bool) -> None:
    """Load images from a tar: an OCI layout or a docker-archive."""
    from corectl import progress
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
    from cored.oci.digest import is_digest

    options = pb.ImportOptions(
        platform=platform, snapshotter=snapshotter, source=file, unnamed=True
    )
    with _archive(file) as archive:
        steps = session.workloads.import_archive(archive, options)
        for step in progress.show(steps, quiet=quiet):
            name = step.image.name
            kind = "image ID" if is_digest(name) else "image"
            click.echo(f"Loaded {kind}: {name if is_digest(name) else output.familiar(name)}")


@click.command("import")
@click.argument("file", metavar="FILE|URL|-", type=click.Path(allow_dash=True))
@click.argument("reference", metavar="[NAME[:TAG]]", required=False, default="")
@click.option("--name", default="", help="Name for the image, in place of what the archive says.")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="As CMD ls.")
@click.option("-m", "--message", default="", help="Why.")
@platform_option
@snapshotter_option
@click.option("-q", "--quiet", is_flag=True, help="Only the names at the end.")
@click.pass_obj
def import_(session: Session, /, file: str, reference: str, **options: Any) -> None:
    """Make an image of a filesystem's tar, from FILE, a URL or standard input; prints its id.

    An OCI layout or docker-archive, without NAME, -c or -m, is loaded; that prints names.
    """
    from corectl import filesystems

    if Path(file).is_dir():
        _loaded(session, file, options)
        return
    if file == "-" and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal, not an archive")
    changes = options["changes"]
    with filesystems.opened(file, sys.stdin.buffer) as archive:
        if not (reference or changes or options["message"]) and filesystems.is_image(archive):
            _loaded(session, file, options, archive)
            return
        wish = filesystems.Wish(
            source=file,
            message=options["message"],
            changes=changes,
            platform=options["platform"],
        )
        with filesystems.layout(archive, wish) as (id, packed):
            more = {"name": reference or options["name"], "quiet": not sys.stderr.isatty()}
            _imported(session, packed, {**options, **more}, file)
            click.echo(id)


def _loaded(
    session: Session, file: str, options: Mapping[str, Any], archive: BinaryIO | None = None
) -> None:
    with _archive(file) if archive is None else nullcontext(archive) as images:
        for name in _imported(session, images, options, file):
            click.echo(name)


def _imported(
    session: Session, archive: BinaryIO, options: Mapping[str, Any], source: str
) -> list[str]:
    """The names of the images that came."""
    from corectl import progress
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    wanted = pb.ImportOptions(
        name=options["name"],
        platform=options["platform"],
        snapshotter=options["snapshotter"],
        source=source,
        unnamed=not options["name"],
    )
    steps = session.workloads.import_archive(archive, wanted)
    return [step.image.name for step in progress.show(steps, quiet=options["quiet"])]


@contextmanager
def _archive(file: str) -> Iterator[BinaryIO]:
    """The archive as an unbuffered file; an OCI layout that is a directory becomes one."""
    if file == "-":
        if sys.stdin.isatty():
            raise click.UsageError("standard input is a terminal, not an archive")
        with open(0, "rb", buffering=0, closefd=False) as archive:
            yield archive
        return
    if not Path(file).is_dir():
        with open(file, "rb", buffering=0) as archive:
            yield archive
        return
    if not (Path(file) / "index.json").exists():
        raise InvalidArgument(f"{file}: is a directory without index.json, no OCI layout")
    import tarfile
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(file, arcname=".")
        packed.seek(0)
        yield packed
