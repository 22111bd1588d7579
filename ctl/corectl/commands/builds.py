"""build: an image from a Dockerfile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from corectl.build_options import Destination, Given, destination
from corectl.build_progress import MODES, Steps, show
from corectl.session import Session
from cored.errors import CoredError, InvalidArgument

__all__ = ["build"]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option
    found = (
        option("-t", "--tag", "tags", multiple=True, help="Name for the image."),
        option("-f", "--file", "dockerfile", default="", help="Dockerfile; - is standard input."),
        option("--build-arg", "args", multiple=True, metavar="NAME[=VALUE]", help="Argument."),
        option("--target", default="", help="Stage to build."),
        option("--platform", "platforms", multiple=True, metavar="OS/ARCH[/VARIANT],...",
               help="Of the image; several make one for all of them."),
        option("--no-cache", is_flag=True, help="Run every step."),
        option("--pull", is_flag=True, help="Ask registries for newer base images."),
        option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Label."),
        option("--iidfile", default="", help="Write the image's id to a file."),
        option("--metadata-file", default="", help="Write what was built as JSON."),
        option("-o", "--output", "outputs", multiple=True, metavar="type=TYPE,dest=PATH",
               help="image, oci, docker, tar or local (a directory)."),
        option("--push", is_flag=True, help="Send the image to its registry."),
        option("--load", is_flag=True, help="Accepted: images are always here."),
        option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]",
               help="Secret for RUN --mount=type=secret."),
        option("--ssh", multiple=True, metavar="ID[=SOCKET]", help="Agent for type=ssh."),
        option("--build-context", "contexts", multiple=True, metavar="NAME=PLACE",
               help="Directory or docker-image://IMAGE for --from and FROM."),
        option("--network", default="default", help="default, none or host, for RUN."),
        option("--allow", multiple=True, metavar="RIGHT",
               help="What RUN may ask for: security.insecure, device[=NAME]."),
        option("--add-host", "add_hosts", multiple=True, metavar="NAME:ADDRESS",
               help="Name for RUN."),
        option("-m", "--memory", default="", help="Memory of each RUN."),
        option("--cpus", default=0.0, help="CPUs of each RUN."),
        option("--timeout", default=0.0, help="Seconds for the whole build."),
        option("--progress", type=click.Choice(MODES), default="auto", help="How to show it."),
        option("-q", "--quiet", is_flag=True, help="Only the image's id at the end."),
        option("--check", is_flag=True, help="Only read the Dockerfile and warn."),
        option("--explain", is_flag=True, help="Say of each step why it was not cached."),
    )  # fmt: skip
    for each in reversed(found):
        command = each(command)
    return command


@click.command()
@click.argument("context", metavar="PATH")
@_options
@click.pass_obj
def build(session: Session, /, **options: Any) -> int:
    """Make an image from a Dockerfile and the files of a context.

    The context is the directory PATH, a URL of a git repository (URL#REF:DIRECTORY) or of a tar
    archive, or - for an archive or a Dockerfile from standard input.
    """
    given = Given(options)
    try:
        if given["check"]:
            return _check(given)
        return _build(session, given)
    except CoredError as error:
        if "\n" not in str(error):
            raise
        # the lines in question are shown as they are
        click.echo(f"corectl: {error}", err=True)
        return 1


def _check(given: Given) -> int:
    from cored_service_build.dockerfile.lint import lint
    from cored_service_build.dockerfile.parser import parse

    from cored.client.contexts import ignore_of

    text, name = given.dockerfile()
    if given.inside:
        raise InvalidArgument(
            "check: the Dockerfile has to be here", hint="-f FILE, or a directory"
        )
    file = parse(text, name)
    found = lint(file, ignore_of(given.dockerignore()), given.args())
    for warning in found:
        click.echo(f"{name}:{warning.where.first}: {warning.rule}: {warning.text}")
        click.echo(file.source.excerpt(warning.where))
    click.echo(f"{len(found)} warnings" if found else "no warnings", err=True)
    return 1 if found else 0


def _build(session: Session, given: Given) -> int:
    if given["ssh"]:
        session.only_here("--ssh: the agent is on this machine", "leave it away, or use --secret")
    wanted = destination(given["outputs"])
    message = given.message(wanted.kind)
    mode = "quiet" if given["quiet"] else given["progress"]
    steps = Steps()
    events = session.builds.build(message, given.directories(), given.archives())
    result = None
    with wanted.opened() as sink:
        try:
            for event in show(events, mode, steps):
                if event.data:
                    sink.write(event.data)
                else:
                    result = event.result
        finally:
            if given["explain"]:
                for line in steps.explained():
                    click.echo(line, err=wanted.standard)
    if result is None:
        raise InvalidArgument("build: ended without a result")
    given.told(result)
    _said(given, wanted, result.config_digest or result.target.digest, list(result.names))
    return 0


def _said(given: Given, wanted: Destination, id: str, names: Sequence[str]) -> None:
    if given["quiet"]:
        click.echo(id, err=wanted.standard)
    elif not given["explain"]:
        for name in names if given["tags"] else [id]:
            click.echo(name, err=wanted.standard)
