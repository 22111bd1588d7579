"""volume create, ls, inspect, rm and prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from corectl import files, output
from corectl.each import each
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import volumes_pb2 as pb

__all__ = ["create", "inspect", "ls", "prune", "rm"]

_COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@click.command()
@click.argument("name", required=False, default="")
@click.option("--name", "named", default="", help="As NAME.")
@click.option("-d", "--driver", default="", help="Driver [local].")
@click.option("-o", "--opt", multiple=True, metavar="NAME=VALUE", help="type=, device=, o=.")
@click.option("--label", multiple=True, metavar="NAME[=VALUE]", help="Label.")
@click.pass_obj
def create(
    session: Session,
    name: str,
    named: str,
    driver: str,
    opt: tuple[str, ...],
    label: tuple[str, ...],
) -> None:
    """Make a volume; prints its name."""
    if name and named:
        raise click.UsageError("the name is given twice")
    from cored._pb.cored.workloads.v1 import volumes_pb2 as pb

    made = session.volumes.create(
        pb.CreateVolumeRequest(
            name=name or named, driver=driver, options=files.pairs(opt), labels=files.pairs(label)
        )
    )
    click.echo(made.name)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="dangling=, driver=, label=, name=.",
)
@output.template_option
@click.pass_obj
def ls(session: Session, quiet: bool, filters: tuple[str, ...], form: str) -> None:
    """List volumes."""
    found = session.volumes.list(filters)
    if quiet and not form:
        for one in found:
            click.echo(one.name)
        return
    output.listing(
        form, _COLUMNS, [_record(one) for one in found], headings={"Mountpoint": "MOUNTPOINT"}
    )


def _record(one: pb.Volume) -> dict[str, Any]:
    return {
        "Name": one.name,
        "Driver": one.driver,
        "Mountpoint": one.mountpoint,
        "Labels": ",".join(f"{k}={v}" for k, v in sorted(one.labels.items())),
        "Scope": "local",
        "Links": str(len(one.users)),
        "Size": "N/A",
    }


@click.command()
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], form: str) -> int:
    """Show everything about volumes, as JSON."""
    found: list[dict[str, Any]] = []

    def look(name: str) -> None:
        one = session.volumes.inspect(name)
        found.append(
            {
                "CreatedAt": output.iso(one.created_at.seconds, one.created_at.nanos),
                "Driver": one.driver,
                "Labels": dict(sorted(one.labels.items())) or None,
                "Mountpoint": one.mountpoint,
                "Name": one.name,
                "Options": dict(sorted(one.options.items())) or None,
                "Scope": "local",
                "Users": list(one.users),
            }
        )

    code = each(session, names, look)
    if found or not form:
        output.templated(form, found)
    return code


@click.command()
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Fine where there is none.")
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], force: bool) -> int:
    """Remove volumes that no container has."""

    def act(name: str) -> None:
        session.volumes.remove(name, force=force)
        click.echo(name)

    return each(session, names, act)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have a name.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="label=, all=true.")
@click.pass_obj
def prune(session: Session, everything: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove the volumes that no container has: anonymous ones, or all."""
    if not force:
        click.echo("WARNING! This will remove volumes not used by any container.", err=True)
        click.confirm("Are you sure you want to continue?", abort=True, err=True)
    done = session.volumes.prune((*filters, *(("all=true",) if everything else ())))
    if done.removed:
        click.echo("Deleted Volumes:")
        for name in done.removed:
            click.echo(name)
        click.echo()
    click.echo(f"Total reclaimed space: {output.size(done.reclaimed).replace(' ', '')}")
