"""Starting shims: ours from the zygote, anybody's by its command line."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage

from cored.abc.runtime import CreateOptions
from cored_runtime_shim import foreign
from cored_runtime_shim.bundle import Bundle
from cored_runtime_shim.foreign import OWN
from cored_runtime_shim.shimlog import ShimLogs
from cored_runtime_shim.zygote import Zygote

__all__ = ["Launcher"]


class Launcher:
    """``address`` is the daemon's socket, told to shims."""

    def __init__(self, address: str, zygote: Zygote) -> None:
        self.address = address
        self._zygote = zygote
        self._logs = ShimLogs()

    def close(self) -> None:
        """Let go of the logs that are open; every shim lives on."""
        self._logs.close_all()

    async def start(
        self, bundle: Bundle, options: CreateOptions, *, own_id: str = ""
    ) -> foreign.Started:
        """A shim for a bundle, listening. NotFound for a runtime without one.

        ``own_id`` is for our own shim, where the bundle's id may be another shim's already.
        """
        if options.runtime in OWN:
            address = await self._zygote.fork(
                bundle.namespace, own_id or bundle.id, bundle.path, self.address
            )
            return foreign.Started(address, 3)
        binary = foreign.find(options.runtime)
        self._logs.open(bundle)
        given = b""
        if options.options is not None:
            any = AnyMessage(type_url=options.options.type_url, value=options.options.value)
            given = any.SerializeToString()
        return await foreign.start(binary, bundle, self.address, given)

    def found(self, bundle: Bundle) -> None:
        """A shim of an earlier daemon, not ours: go on with its log."""
        self._logs.open(bundle)

    def forget(self, bundle: Bundle) -> None:
        """The shim is gone."""
        self._logs.close(bundle)
