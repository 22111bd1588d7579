"""builder: the cache of builds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from corectl import output
from corectl.session import Session
from corectl.sizes import count
from corectl.times import moment
from cored.errors import InvalidArgument

__all__ = ["ls", "prune"]


@click.command()
@click.pass_obj
def ls(session: Session) -> None:
    """List what the cache of builds holds, the latest used first."""
    for record in session.builds.cache():
        used = output.local(record.used_at // 10**9)
        click.echo(
            f"{record.key[:12]}  {output.size(record.size):>9}  {used}  {record.instruction}"
        )


@click.command()
@click.option("--keep-storage", default="", help="What may stay: 512m, 10g.")
@click.option("--unused-for", default=0.0, help="Only what was not used for so many seconds.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="until=DURATION",
    help="Only what was not used for so long: 24h.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="Accepted: nothing is left out.")
@click.option("-f", "--force", is_flag=True, help="Accepted; nothing is asked.")
@click.pass_obj
def prune(
    session: Session,
    keep_storage: str,
    unused_for: float,
    filters: Sequence[str],
    everything: bool,
    force: bool,
) -> None:
    """Remove what the cache of builds holds, the longest unused first."""
    for text in filters:
        name, _, value = text.partition("=")
        if name not in ("until", "unused-for"):
            raise InvalidArgument(f"filter {text!r}: unknown", hint="until=DURATION")
        unused_for = max(unused_for, (time.time_ns() - moment(value)) / 1e9)
    keep = count(keep_storage)
    done = session.builds.prune(keep_size=keep, unused_for=unused_for)
    click.echo(f"{done.removed} steps, {output.size(done.freed)} of layers")
