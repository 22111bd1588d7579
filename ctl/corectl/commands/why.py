"""why: what happened to a container, in a few lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.colour import styled
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import diagnosis_pb2 as pb

__all__ = ["tell_briefly", "why"]

_PATIENCE = 5.0


@click.command()
@click.argument("container")
@output.choice
@click.pass_obj
def why(session: Session, container: str, form: str) -> None:
    """Tell what happened to a container: why it ended, or could not be started or made.

    Also of one that has removed itself lately.
    """
    from cored.client import diagnosis

    found = diagnosis.why(session.channel, container)
    if form == "json":
        output.as_json(_document(found))
        return
    name = styled(found.name or found.id[:12], bold=True)
    click.echo(f"{name} ({found.image}, {found.id[:12]}): {_status(found)}")
    for cause in found.causes:
        click.echo(f"  {styled(cause.text, fg='red') if cause.telling else cause.text}")
        if cause.hint:
            click.echo(f"    hint: {cause.hint}")
    if not found.causes:
        click.echo("  nothing is known against it")
    if found.lives:
        click.echo("  earlier:")
        for life in found.lives:
            click.echo(f"    {_life(life)}")
    if found.lines:
        click.echo("  its last words:")
        for line in found.lines:
            click.echo(f"    {line}")


def tell_briefly(session: Session, container: str) -> None:
    """On stderr, what of it the container has not said itself."""
    from cored.client import diagnosis
    from cored.errors import CoredError

    try:
        found = diagnosis.why(session.channel, container, timeout=_PATIENCE)
    except CoredError:
        return  # what there was to say has been said, and its exit code stands
    for cause in found.causes:
        if cause.telling:
            hint = f" ({cause.hint})" if cause.hint else ""
            click.echo(f"corectl: {found.name}: {cause.text}{hint}", err=True)


def _status(found: pb.WhyResponse) -> str:
    ended = f"exit code {found.exit_status}, {output.age(found.exited_at.seconds)} ago"
    match found.status:
        case "stopped":
            return f"ended, {ended}"
        case "removed":
            return f"ended, {ended}; has been removed"
        case "restarting":
            return f"waits for a restart, {ended}"
        case other:
            return other


def _life(life: pb.Life) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(life.started_at.seconds))
    lasted = max(0, life.exited_at.ToNanoseconds() - life.started_at.ToNanoseconds()) / 10**9
    if life.error:
        return f"could not be started: {life.error}"
    oom = ", out of memory" if life.oom_killed else ""
    return f"{began}: {lasted:.1f} s, exit code {life.exit_status}{oom}"


def _document(found: pb.WhyResponse) -> dict[str, Any]:
    def when(stamp: Any) -> str:
        return output.iso(stamp.seconds, stamp.nanos)

    return {
        "ID": found.id,
        "Name": found.name,
        "Image": found.image,
        "Status": found.status,
        "ExitCode": found.exit_status,
        "StartedAt": when(found.started_at),
        "FinishedAt": when(found.exited_at),
        "Causes": [{"Kind": one.kind, "Text": one.text, "Hint": one.hint} for one in found.causes],
        "Lives": [
            {
                "StartedAt": when(one.started_at),
                "FinishedAt": when(one.exited_at),
                "ExitCode": one.exit_status,
                "OOMKilled": one.oom_killed,
                "Error": one.error,
            }
            for one in found.lives
        ],
        "Log": list(found.lines),
    }
