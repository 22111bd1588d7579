"""config: the resolved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from corectl.compose import printing
from corectl.compose.application import Application
from corectl.compose.project import Project, raw

__all__ = ["config"]


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml")
@click.option("-q", "--quiet", is_flag=True, help="Only check the files.")
@click.option("-o", "--output", default="", metavar="FILE", help="Write it into a file.")
@click.option("--hash", "hashed", default="", metavar="SERVICE,...|*", help="Services' hashes.")
@click.option("--services", "names", is_flag=True, help="Only the services' names.")
@click.option("--volumes", is_flag=True, help="Only the volumes' names.")
@click.option("--networks", is_flag=True, help="Only the networks' names.")
@click.option("--profiles", is_flag=True, help="Only the profiles' names.")
@click.option("--images", is_flag=True, help="Only the images' names.")
@click.option("--environment", is_flag=True, help="Only the variables of interpolation.")
@click.option("--no-interpolate", is_flag=True, help="Leave variables as they are written.")
@click.pass_obj
def config(application: Application, /, services: Sequence[str], **options: Any) -> None:
    """Show the model that the files come to, with everything in its long form."""
    if options["no_interpolate"]:
        found = printing.document(raw(application.request), escape=False)
        _write(found, options)
        return
    project = application.project(services)
    chosen = project.chosen(services)
    if options["quiet"]:
        return
    lines = _lines(project, chosen, options)
    if lines is not None:
        for line in lines:
            click.echo(line)
        return
    _write(printing.document(project.tree, set(chosen.services)), options)


def _lines(project: Project, chosen: Project, options: dict[str, Any]) -> list[str] | None:
    if hashed := options["hashed"]:
        names = None if hashed == "*" else hashed.split(",")
        found = printing.hashes(project.chosen(names or [], dependencies=False))
        return [f"{name} {value}" for name, value in found.items()]
    everything = {**project.services, **project.disabled}
    if options["names"]:
        return sorted(chosen.services)
    if options["volumes"]:
        return sorted(project.volumes)
    if options["networks"]:
        return sorted(project.networks)
    if options["profiles"]:
        return sorted({word for one in everything.values() for word in one.profiles})
    if options["images"]:
        return sorted({printing.image_of(project, name) for name in chosen.services})
    if options["environment"]:
        return [f"{name}={value}" for name, value in sorted(project.variables.items())]
    return None


def _write(found: dict[str, Any], options: dict[str, Any]) -> None:
    if options["form"] == "json":
        import json

        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = printing.as_yaml(found)
    if options["output"]:
        Path(options["output"]).write_text(text)
    elif not options["quiet"]:
        click.echo(text, nl=False)
