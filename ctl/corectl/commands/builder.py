"""builder: the cache of builds."""

from __future__ import annotations

import click

from corectl import output
from corectl.session import Session
from corectl.sizes import count

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
@click.option("-f", "--force", is_flag=True, help="Accepted; nothing is asked.")
@click.pass_obj
def prune(session: Session, keep_storage: str, unused_for: float, force: bool) -> None:
    """Remove what the cache of builds holds, the longest unused first."""
    keep = count(keep_storage)
    done = session.builds.prune(keep_size=keep, unused_for=unused_for)
    click.echo(f"{done.removed} steps, {output.size(done.freed)} of layers")
