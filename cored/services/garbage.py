"""cored.garbage.v1.Garbage: collection on demand, and its reasons."""

from __future__ import annotations

from cored import scope
from cored._pb.cored.garbage.v1 import garbage_pb2 as pb
from cored.abc.service import Service
from cored.errors import InvalidArgument, NotFound
from cored.metadata.gc import Scheduler
from cored.metadata.graph import Node

__all__ = ["GarbageService", "node_message"]


class GarbageService(Service):
    service = "cored.garbage.v1.Garbage"

    def __init__(self, gc: Scheduler) -> None:
        self._gc = gc

    async def Collect(self, request: pb.CollectRequest) -> pb.CollectResponse:
        if request.dry_run:
            return pb.CollectResponse(removed=map(node_message, await self._gc.unreachable()))
        done = await self._gc.collect()
        return pb.CollectResponse(removed=map(node_message, done.removed), seconds=done.seconds)

    async def Explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        if not request.id:
            raise InvalidArgument("explain: names nothing", hint="a digest, or a snapshot's key")
        found = await self._gc.explain(scope.namespace(), request.id)
        if not found:
            raise NotFound(
                f"{request.id!r}: nothing has this name in namespace {scope.namespace()!r}",
                hint="a digest, a snapshot's key, or the name of an image, container or lease",
            )
        answer = pb.ExplainResponse()
        for node, chains in found.items():
            explanation = answer.explanations.add(node=node_message(node))
            for chain in chains:
                explanation.chains.add(nodes=map(node_message, chain.nodes), reason=chain.reason)
        return answer


def node_message(node: Node) -> pb.Node:
    """One thing that can be kept or collected, as a message."""
    return pb.Node(type=node.type, namespace=node.namespace, id=node.id)
