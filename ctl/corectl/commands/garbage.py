"""gc: collect what nothing refers to, and say why the rest is kept."""

from __future__ import annotations

from typing import Any

import click

from corectl import output
from corectl.session import Session

__all__ = ["gc"]

_SERVICE = "/cored.garbage.v1.Garbage/"
_WORDS = {"ingests": "ingest"}
# what is kept because of what it is needs no reason
_BORN = ("image", "container", "sandbox", "lease")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--explain",
    metavar="DIGEST|SNAPSHOT",
    default="",
    help="Show what keeps a blob, a snapshot, or anything with a name; removes nothing.",
)
@output.choice
@click.pass_obj
def gc(session: Session, dry_run: bool, explain: str, form: str) -> None:
    """Remove what nothing refers to any more, in all namespaces."""
    from cored._pb.cored.garbage.v1 import garbage_pb2 as pb

    if explain:
        answer = session.channel.unary(
            f"{_SERVICE}Explain", pb.ExplainRequest(id=explain), pb.ExplainResponse
        )
        if form == "json":
            output.as_json([_as_dict(one) for one in answer.explanations])
            return
        for one in answer.explanations:
            _show(one)
        return
    done = session.channel.unary(
        f"{_SERVICE}Collect", pb.CollectRequest(dry_run=dry_run), pb.CollectResponse
    )
    if form == "json":
        output.as_json([_node(node) for node in done.removed])
        return
    for node in done.removed:
        click.echo(f"{_word(node.type)} {node.id} (namespace {node.namespace})")
    count = len(done.removed)
    click.echo(f"{count} {'would be' if dry_run else 'were'} removed", err=True)


def _show(one: Any) -> None:
    """Each chain from its root down, one step to a line."""
    click.echo(f"{_word(one.node.type)} {one.node.id}")
    if not one.chains:
        click.echo("  nothing keeps it: the next collection removes it")
    for chain in one.chains:
        root = chain.nodes[0]
        if len(chain.nodes) == 1:
            click.echo(f"  is kept for its own sake: {chain.reason}")
            continue
        why = f" ({chain.reason})" if root.type not in _BORN else ""
        click.echo(f"  is kept by {_word(root.type)} {root.id}{why}")
        for depth, node in enumerate(chain.nodes[1:], 2):
            click.echo(f"{'  ' * depth}-> {_word(node.type)} {node.id}")


def _word(type: str) -> str:
    """A node's type as people say it: ``snapshots/overlayfs`` is ``snapshot (overlayfs)``."""
    kind, _, snapshotter = type.partition("/")
    if snapshotter:
        return f"snapshot ({snapshotter})"
    return _WORDS.get(kind, kind)


def _node(node: Any) -> dict[str, str]:
    return {"type": node.type, "namespace": node.namespace, "id": node.id}


def _as_dict(one: Any) -> dict[str, Any]:
    return {
        **_node(one.node),
        "kept": bool(one.chains),
        "chains": [
            {"reason": chain.reason, "nodes": [_node(node) for node in chain.nodes]}
            for chain in one.chains
        ],
    }
