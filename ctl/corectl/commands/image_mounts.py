"""image mount and unmount: an image's files in a directory."""

from __future__ import annotations

from pathlib import Path

import click

from corectl.each import each
from corectl.session import Session
from cored.errors import CoredError, FailedPrecondition, NotFound

__all__ = ["mount", "unmount"]

_ELSEWHERE = "mounts are made where corectl is: run it there, or use corectl cp"


@click.command()
@click.argument("reference", metavar="IMAGE")
@click.argument("target", metavar="DIRECTORY")
@click.option("--rw", "writable", is_flag=True, help="Writable; what is written goes at unmount.")
@click.option("--platform", default="", help="os/arch[/variant] of the image.")
@click.option("--snapshotter", default="", help="Snapshotter to unpack with.")
@click.pass_obj
def mount(
    session: Session,
    reference: str,
    target: str,
    writable: bool,
    platform: str,
    snapshotter: str,
) -> None:
    """Show an image's files in a DIRECTORY, read-only; needs root."""
    from cored._pb.cored.workloads.v1 import images_pb2
    from cored.abc.values import Mount
    from cored.errors import from_mount_error
    from cored.linux import mount_all

    session.only_here("image mount", _ELSEWHERE)
    place = str(Path(target).resolve())
    if not Path(place).is_dir():
        raise NotFound(f"directory '{target}': not found")
    request = images_pb2.MountImageRequest(
        reference=reference,
        target=place,
        writable=writable,
        platform=platform,
        snapshotter=snapshotter,
    )
    answer = session.workloads.mount_image(request)
    mounts = [Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts]
    try:
        mount_all(mounts, place)
    except OSError as error:
        session.workloads.unmount_image(place)
        raise from_mount_error(f"directory '{target}'", error) from error
    except CoredError:
        session.workloads.unmount_image(place)
        raise
    click.echo(place)


@click.command()
@click.argument("targets", metavar="DIRECTORY...", nargs=-1, required=True)
@click.pass_obj
def unmount(session: Session, targets: tuple[str, ...]) -> int:
    """Take what image mount made away again."""
    from cored.linux import unmount_all

    session.only_here("image unmount", _ELSEWHERE)

    def away(target: str) -> None:
        place = str(Path(target).resolve())
        try:
            unmount_all(place)
        except OSError as error:
            raise FailedPrecondition(
                f"directory '{target}': {error.strerror}", hint="somebody works in it"
            ) from error
        session.workloads.unmount_image(place)
        click.echo(place)

    return each(session, targets, away)
