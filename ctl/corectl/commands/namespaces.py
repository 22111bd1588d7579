"""namespace: ls, create, label, inspect, rm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from corectl import files, output
from corectl.session import Session

if TYPE_CHECKING:
    from cored.client.system import Namespaces

__all__ = ["create", "inspect", "label", "ls", "rm"]


def _namespaces(session: Session) -> Namespaces:
    from cored.client.system import Namespaces

    return Namespaces(session.channel)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@output.template_option
@click.pass_obj
def ls(session: Session, quiet: bool, form: str) -> None:
    """List namespaces."""
    found = _namespaces(session).all()
    if quiet:
        for name in found:
            click.echo(name)
        return
    records = [{"Name": name, "Labels": _shown(labels)} for name, labels in found.items()]
    output.listing(form, {"Name": "NAME", "Labels": "LABELS"}, records)


@click.command()
@click.argument("name")
@click.option("-l", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Label.")
@click.pass_obj
def create(session: Session, name: str, labels: tuple[str, ...]) -> None:
    """Make a namespace; one that is not made comes to life by its use."""
    _namespaces(session).create(name, files.pairs(labels))
    click.echo(name)


@click.command()
@click.argument("name")
@click.argument("labels", metavar="NAME=VALUE...", nargs=-1, required=True)
@click.pass_obj
def label(session: Session, name: str, labels: tuple[str, ...]) -> None:
    """Set labels of a namespace; an empty value takes one away."""
    _namespaces(session).label(name, files.pairs(labels))


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], form: str) -> int:
    """Show namespaces with their labels, as JSON."""
    from corectl.report import say

    known = _namespaces(session).all()
    there = [name for name in names if name in known]
    output.templated(form, [{"Name": name, "Labels": dict(known[name])} for name in there])
    for name in names:
        if name not in known:
            say(f"namespace '{name}': not found (see: corectl namespace ls)")
    return 0 if len(there) == len(names) else 1


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, names: tuple[str, ...]) -> int:
    """Remove namespaces that are empty."""
    from corectl.each import each

    def act(name: str) -> None:
        _namespaces(session).remove(name)
        click.echo(name)

    return each(session, names, act)


def _shown(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
