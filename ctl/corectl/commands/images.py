"""images, rmi, tag, and image ls | rm | prune."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["ls", "prune", "rm", "tag"]

_COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
_HEADINGS = {
    "Digest": "DIGEST",
    "CreatedAt": "CREATED AT",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}


@click.command()
@click.argument("repository", metavar="[REPOSITORY[:TAG]]", required=False, default="")
@click.option("-a", "--all", "everything", is_flag=True, help="As docker's: all are shown anyway.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="reference=, label=, dangling=, before=, since=, until=.",
)
@output.template_option
@click.pass_obj
def ls(
    session: Session,
    repository: str,
    everything: bool,
    quiet: bool,
    digests: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    form: str,
) -> None:
    """List images."""
    del everything
    if repository:
        filters = (*filters, f"reference={repository}")
    found = session.workloads.images(filters)
    found.sort(key=lambda image: (-_created(image), image.name))
    records = [_record(image, whole=no_trunc) for image in found]
    if quiet and not form:
        for id in dict.fromkeys(record["ID"] for record in records):
            click.echo(id)
        return
    columns = dict(_COLUMNS)
    if digests:
        # a key keeps its first place, and takes the last value
        columns = {"Repository": "", "Tag": "", "Digest": "DIGEST"} | columns
    output.listing(form, columns, records, headings=_HEADINGS)


def _created(image: pb.Image) -> float:
    """When the image was made, Unix seconds; 0 when it does not say."""
    return output.instant(image.created) if image.created else 0.0


def _record(image: pb.Image, *, whole: bool) -> dict[str, Any]:
    """An image by the names that docker has for what templates can show."""
    repository, tag = output.image_name(image.name)
    id = image.config_digest or image.target.digest
    created = int(_created(image))
    amount = output.size(image.size).replace(" ", "")
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": image.target.digest,
        "ID": id if whole else output.digest(id),
        "CreatedSince": f"{output.age(created)} ago" if created > 0 else "N/A",
        "CreatedAt": output.local(created) if created > 0 else "N/A",
        "Size": amount,
        "VirtualSize": amount,
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
        "Platform": image.platform,
        "Labels": dict(image.config_labels),
    }


@click.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Also when containers were made from it.")
@click.option("--no-prune", is_flag=True, hidden=True)
@click.pass_obj
def rm(session: Session, references: tuple[str, ...], force: bool, no_prune: bool) -> int:
    """Remove images: a name, and with the last one the image, with all that only it needs."""
    del no_prune
    workloads = session.workloads

    def remove(reference: str) -> None:
        _tell(workloads.remove_image(reference, force=force))

    return each(session, references, remove)


def _tell(done: Any) -> None:
    for name in done.untagged:
        click.echo(f"Untagged: {output.familiar(name)}")
    for digest in done.deleted:
        click.echo(f"Deleted: {digest}")


@click.command()
@click.argument("source", metavar="IMAGE")
@click.argument("target", metavar="NAME[:TAG]")
@click.pass_obj
def tag(session: Session, source: str, target: str) -> None:
    """Give an image one more name."""
    session.workloads.tag_image(source, target)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All that no container uses.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=, label=, label!=."
)
@click.pass_obj
def prune(session: Session, everything: bool, force: bool, filters: tuple[str, ...]) -> int:
    """Remove images without names."""
    which = "all images that no container uses" if everything else "all images without names"
    if not force:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: use --force")
        click.echo(f"This removes {which}.", err=True)
        if not click.confirm("Go on?", err=True):
            return 1
    done = session.workloads.prune_images(filters, everything=everything)
    _tell(done)
    click.echo(f"Total reclaimed space: {output.size(done.reclaimed).replace(' ', '')}")
    return 0
