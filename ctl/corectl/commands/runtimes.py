"""runtime ls: what containers may ask for as their runtime, and whether it works."""

from __future__ import annotations

from typing import Any

import click

from corectl import output
from corectl.session import Session

__all__ = ["ls"]


@click.command()
@output.choice
@click.pass_obj
def ls(session: Session, form: str) -> None:
    """List the runtimes, with what they are, and whether they work on this host.

    The name is what `corectl run --runtime NAME` takes; * marks the one for who does not ask.
    """
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    answer = session.channel.unary(
        "/cored.workloads.v1.Workloads/ListRuntimes",
        pb.ListRuntimesRequest(),
        pb.ListRuntimesResponse,
    )
    if form == "json":
        output.as_json([_as_dict(one) for one in answer.runtimes])
        return
    rows = [
        (
            f"{one.name}{' *' if one.usual else ''}",
            one.kind,
            one.version or "-",
            one.path or "-",
            _features(one.features),
            f"no: {' '.join(one.problem.split())}" if one.problem else "yes",
        )
        for one in answer.runtimes
    ]
    output.table(("NAME", "KIND", "VERSION", "PATH", "FEATURES", "WORKS"), rows)


def _features(text: bytes) -> str:
    """In a few words: the versions of the specification, and what is compiled in."""
    if not text:
        return "-"
    known = _parsed(text)
    words = [f"spec {known.get('ociVersionMin', '?')} to {known.get('ociVersionMax', '?')}"]
    linux = known.get("linux") or {}
    for name in ("seccomp", "apparmor", "selinux"):
        if (linux.get(name) or {}).get("enabled"):
            words.append(name)
    return ", ".join(words)


def _parsed(text: bytes) -> dict[str, Any]:
    import json

    return dict(json.loads(text))


def _as_dict(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "version": one.version,
        "path": one.path,
        "usual": one.usual,
        "works": not one.problem,
        "problem": one.problem or None,
        "limits": dict(one.limits),
        "features": _parsed(one.features) if one.features else None,
    }
