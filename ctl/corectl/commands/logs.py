"""logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from corectl import output
from corectl.session import Session
from corectl.times import stamp

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["logs"]


@click.command()
@click.argument("container")
@click.option("-f", "--follow", is_flag=True, help="Stay until it ends.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Only the last N lines.")
@click.option("-t", "--timestamps", is_flag=True, help="When each was written.")
@click.option("--since", default="", metavar="TIME", help="Only what was written since then.")
@click.option("--until", default="", metavar="TIME", help="Only what was written until then.")
@click.option("--details", is_flag=True, help="Labels and variables that --log-opt names.")
@click.pass_obj
def logs(
    session: Session,
    container: str,
    follow: bool,
    tail: str,
    timestamps: bool,
    since: str,
    until: str,
    details: bool,
) -> None:
    """Show what a container wrote; each stream goes to ours of the same name."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    if tail not in ("all", "-1") and not tail.isdecimal():
        raise click.BadParameter(f"'{tail}' is neither a number nor all", param_hint="--tail")
    request = pb.LogsRequest(
        container=container,
        follow=follow,
        tail=int(tail) if tail.isdecimal() else -1,
        since=stamp(since),
        until=stamp(until),
        details=details,
    )
    fresh = {"stdout": True, "stderr": True}
    for record in session.workloads.logs(request):
        stream = sys.stderr.buffer if record.stream == "stderr" else sys.stdout.buffer
        data = record.data
        if fresh.get(record.stream, True):
            data = _details(record) + data
            if timestamps:
                data = f"{output.iso(record.time.seconds, record.time.nanos)} ".encode() + data
        fresh[record.stream] = record.data.endswith(b"\n")
        stream.write(data)
        if follow:
            stream.flush()


def _details(record: pb.LogRecord) -> bytes:
    """What docker shows before each line: labels, variables and the tag of the log options."""
    pairs = sorted(record.details.items())
    return ",".join(f"{name}={value}" for name, value in pairs).encode() + b" " if pairs else b""
