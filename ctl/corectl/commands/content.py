"""content check and ls: what is stored, and whether it is still what it was."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from corectl import output
from corectl.session import Session

__all__ = ["check", "ls"]

_WORDS = {"content": "blob", "ingests": "ingest"}


@click.command()
@click.option("--repair", is_flag=True, help="Fetch again, and unpack again, what is damaged.")
@click.option("--quick", is_flag=True, help="Do not compare snapshots' files with their layers.")
@click.option("-u", "--user", default="", metavar="NAME[:PASSWORD]", help="Registry login.")
@output.choice
@click.pass_obj
def check(session: Session, repair: bool, quick: bool, user: str, form: str) -> int:
    """Verify every blob, snapshot and record of all namespaces.

    Blobs are read and hashed; snapshots are looked up with the chains that they stand on, and the
    files of images' layers are compared with the layers' archives, byte by byte. Exits with 1 when
    something is damaged (and was not repaired).
    """
    from cored._pb.cored.stores.v1 import stores_pb2 as pb

    name, colon, password = user.partition(":")
    if name and not colon:
        password = click.prompt("Password", hide_input=True, err=True)
    request = pb.CheckRequest(repair=repair, skip_contents=quick, username=name, password=password)
    events = session.channel.stream("/cored.stores.v1.Stores/Check", [request], pb.CheckEvent)
    damages: list[Any] = []
    summary: Any = None
    for event in _shown(events):
        if event.HasField("summary"):
            summary = event.summary
        else:
            damages.append(event.damage)
            if form == "table":
                _say(event.damage, repair=repair)
    if form == "json":
        output.as_json(_as_dict(damages, summary))
    else:
        _sum_up(summary)
    return 1 if summary.damaged > summary.repaired else 0


def _shown(events: Iterable[Any]) -> Iterator[Any]:
    """The events that matter; on a terminal a line tells how far it is."""
    if not sys.stderr.isatty():
        yield from (event for event in events if not event.HasField("stage"))
        return
    from rich.console import Console

    with Console(stderr=True).status("checking") as line:
        for event in events:
            if event.HasField("stage"):
                stage = event.stage
                what = f"{_word(stage.what)} {output.digest(stage.what.id)}"
                line.update(f"{what} ({stage.done} of {stage.total})")
            else:
                yield event


def _say(damage: Any, *, repair: bool) -> None:
    node = damage.what
    where = f" (namespace {node.namespace})" if node.namespace else ""
    click.echo(f"{_word(node)} {node.id}{where}: {damage.reason}")
    for user in damage.users:
        click.echo(f"  used by {_word(user)} {user.id} (namespace {user.namespace})")
    if damage.repaired:
        click.echo("  repaired")
    elif damage.remedy:
        click.echo(f"  {'not repaired: ' if repair else ''}{damage.remedy}")


def _sum_up(summary: Any) -> None:
    for node in summary.leftovers:
        click.echo(f"left over: {_word(node)} {node.id} (the next collection removes it)")
    click.echo(
        f"{summary.blobs} blobs ({output.size(summary.size)}), {summary.snapshots} snapshots"
        f" ({summary.contents} compared with their layers): "
        + (f"{summary.damaged} damaged" if summary.damaged else "sound")
        + (f", {summary.repaired} repaired" if summary.repaired else "")
    )


def _word(node: Any) -> str:
    kind, _, snapshotter = node.type.partition("/")
    return f"snapshot ({snapshotter})" if snapshotter else _WORDS.get(kind, kind)


def _node(node: Any) -> dict[str, str]:
    return {"type": node.type, "namespace": node.namespace, "id": node.id}


def _as_dict(damages: Iterable[Any], summary: Any) -> dict[str, Any]:
    return {
        "damaged": [
            {
                **_node(damage.what),
                "reason": damage.reason,
                "users": [_node(user) for user in damage.users],
                "repaired": damage.repaired,
                "remedy": damage.remedy,
            }
            for damage in damages
        ],
        "leftovers": [_node(node) for node in summary.leftovers],
        "blobs": summary.blobs,
        "size": summary.size,
        "snapshots": summary.snapshots,
        "contents": summary.contents,
    }


@click.command()
@click.argument("filters", nargs=-1)
@click.option("-q", "--quiet", is_flag=True, help="Only digests.")
@output.choice
@click.pass_obj
def ls(session: Session, filters: tuple[str, ...], quiet: bool, form: str) -> None:
    """List blobs of the namespace. FILTERS are as containerd's: labels."name"==value"""
    from cored._pb.containerd.services.content.v1 import content_pb2 as pb

    pages = session.channel.stream(
        "/containerd.services.content.v1.Content/List",
        [pb.ListContentRequest(filters=filters)],
        pb.ListContentResponse,
    )
    blobs = [info for page in pages for info in page.info]
    if quiet:
        for info in blobs:
            click.echo(info.digest)
    elif form == "json":
        output.as_json([_blob(info) for info in blobs])
    else:
        rows = [
            (info.digest, output.size(info.size), f"{output.age(info.created_at.seconds)} ago")
            for info in blobs
        ]
        output.table(("DIGEST", "SIZE", "CREATED"), rows)


def _blob(info: Any) -> dict[str, Any]:
    return {
        "digest": info.digest,
        "size": info.size,
        "created_at": output.iso(info.created_at.seconds, info.created_at.nanos),
        "labels": dict(info.labels),
    }
