"""The way to one shim: it answers, or is silent (stopped, stuck), or gone for good."""

from __future__ import annotations

import asyncio
from typing import Any

from cored import log
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored.errors import CoredError, NotFound, Unavailable
from cored.rpc.ttrpc_client import Client
from cored_runtime_shim.asleep import Note, Vigil

__all__ = ["Line"]

# a call that takes longer than this makes us ask whether the shim is there at all, seconds
_PATIENCE = 3.0
# and this long it may take for an answer to that
_SIGN_OF_LIFE = 5.0
_RETRY = 1.0


class Line:
    """Calls to the Task service of one shim for one task.

    A shim that does not answer is *silent*: calls fail with Unavailable at once, until it answers
    the question that is still open. ``gone`` is done when nobody listens any more. One that sleeps
    is connected to when there is something to ask.
    """

    def __init__(self, namespace: str, id: str, address: str, version: int) -> None:
        self._id = id
        self._namespace = namespace
        self._address = address
        self._service = f"containerd.task.v{version}.Task"
        self._metadata = {"containerd-namespace-ttrpc": namespace}
        self._client: Client | None = None
        self._vigil: Vigil | None = None
        self._waking: asyncio.Task[int | None] | None = None
        self._asking: asyncio.Task[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._pending: set[asyncio.Timeout] = set()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.silent = False

    @classmethod
    def dead(cls, namespace: str, id: str) -> Line:
        """The line to a shim that is known to be gone."""
        line = cls(namespace, id, "", 3)
        line.gone.set_result(None)
        return line

    @classmethod
    def asleep(cls, namespace: str, id: str, note: Note) -> Line:
        """The line to a shim of ours that sleeps. OSError when it does not live."""
        line = cls(namespace, id, note.address, 3)
        line._vigil = Vigil(note, line._lost)
        return line

    async def connect(self) -> None:
        """Unavailable when nobody listens; that makes the line gone."""
        try:
            client = await Client.connect(self._address, _SIGN_OF_LIFE)
        except Unavailable as error:
            if not isinstance(error.__cause__, (TimeoutError, BlockingIOError)):
                self._lost()
            raise
        self._client = client
        self._end_vigil()
        client.lost.add_done_callback(lambda _: self._lost())
        self.connected.set_result(None)

    async def find(self, patience: float) -> int | None:
        """Connect to a shim of an earlier daemon; the pid of the task's init, None for no task.

        Unavailable when it is gone, or (then the line is silent, and goes on trying) when there
        is no answer after ``patience`` seconds.
        """
        finding = asyncio.create_task(self._find(), name=f"finding the shim of {self._id}")
        self._asking = finding
        done, _ = await asyncio.wait([finding], timeout=patience)
        if not done:
            self._silence()
            raise self._unanswered()
        return finding.result()

    async def call(
        self,
        method: str,
        request: Any,
        answer: Any,
        *,
        patience: float | None = None,
        service: str = "",
    ) -> Any:
        """One RPC, of the Task service if no other is named. Unavailable when the shim is gone,
        silent, or both in the meantime.

        TimeoutError when there is no answer after ``patience`` seconds; whether the shim is silent
        is being found out then.
        """
        if self._vigil is not None:
            await self._wake()
        client = self._ready()
        try:
            async with asyncio.timeout(patience) as limit:
                self._pending.add(limit)
                self._watch()
                return await client.call(
                    service or self._service, method, request, answer, metadata=self._metadata
                )
        except TimeoutError as error:
            if self.silent:
                raise self._unanswered() from error
            self._suspect()
            raise
        finally:
            self._pending.discard(limit)

    async def wait(self, request: Any) -> Any:
        """The RPC Wait, which takes as long as a process runs, whether the shim is silent or not.

        Unavailable when the shim is gone.
        """
        if self._vigil is not None:
            ends = [self.connected, self.gone]
            if not request.exec_id:
                ends.append(self._vigil.ended)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._vigil is not None:
                await self._wake()
        if self._client is None:
            await asyncio.wait([self.connected, self.gone], return_when=asyncio.FIRST_COMPLETED)
        if self._client is None or self.gone.done():
            raise self._dead()
        return await self._client.call(
            self._service, "Wait", request, pb.WaitResponse(), metadata=self._metadata
        )

    def close(self) -> None:
        """Let go; the shim lives on, or is told to end by somebody else."""
        self._end_vigil()
        if self._waking is not None:
            self._waking.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._client is not None:
            self._client.close()

    @property
    def _logger(self) -> Any:
        return log.get("runtime").bind(namespace=self._namespace, container=self._id)

    async def _wake(self) -> None:
        """Connect to a shim that sleeps, once for all who ask; it may turn out silent, or gone."""
        if self._waking is None:
            self._waking = asyncio.create_task(
                self.find(_SIGN_OF_LIFE), name=f"waking the shim of {self._id}"
            )
        await asyncio.wait([self._waking])
        if not self._waking.cancelled() and (error := self._waking.exception()) is not None:
            self._logger.debug("its shim was asleep", error=str(error))

    def _end_vigil(self) -> None:
        if self._vigil is not None:
            self._vigil.close()
            self._vigil = None

    def _ready(self) -> Client:
        if self.gone.done():
            raise self._dead()
        if self.silent or self._client is None:
            raise self._unanswered()
        return self._client

    def _dead(self) -> Unavailable:
        return Unavailable(f"task {self._id!r}: its shim is gone")

    def _unanswered(self) -> Unavailable:
        pid = self._peer()
        return Unavailable(
            f"task {self._id!r}: its shim{f' (pid {pid})' if pid else ''} does not answer",
            hint="try again, or kill the shim: its container goes with it",
        )

    def _peer(self) -> int:
        if self._vigil is not None:
            return self._vigil.shim
        return 0 if self._client is None else self._client.peer_pid

    def _watch(self) -> None:
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(_PATIENCE, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._pending:
            self._suspect()

    def _suspect(self) -> None:
        """Somebody waits for long: ask whether the shim is there at all, once at a time."""
        if (self._asking is None or self._asking.done()) and not self.gone.done():
            self._asking = asyncio.create_task(self._ask(), name=f"shim of {self._id}")

    async def _ask(self) -> None:
        """Have a sign of life within a while, or be silent until there is one."""
        asked = asyncio.create_task(self._sign_of_life())
        try:
            done, _ = await asyncio.wait([asked], timeout=_SIGN_OF_LIFE)
            if not done:
                self._silence()
            await asked
        except Unavailable as error:
            self._logger.debug("its shim went while it was asked", error=str(error))
        finally:
            asked.cancel()
        if self._pending:
            self._watch()

    async def _find(self) -> int | None:
        """Connect, however long it takes, and ask who is there."""
        while self._client is None:
            try:
                await self.connect()
            except Unavailable as error:
                if self.gone.done():
                    raise
                self._logger.debug("no connection to its shim", error=str(error))
                await asyncio.sleep(_RETRY)
        pid = await self._sign_of_life()
        if pid:
            return pid
        state = pb.StateResponse()
        try:
            await self._ask_for("State", pb.StateRequest(id=self._id), state)
        except NotFound:
            return None
        return state.pid

    async def _sign_of_life(self) -> int:
        """Ask for something that any shim knows without asking anybody: the pid of its init."""
        answer = pb.ConnectResponse()
        try:
            await self._ask_for("Connect", pb.ConnectRequest(id=self._id), answer)
        except Unavailable:
            raise
        except CoredError as error:
            self._logger.debug("its shim does not know Connect", error=str(error))
        if self.silent:
            self._logger.info("its shim answers again")
        self.silent = False
        return answer.task_pid

    async def _ask_for(self, method: str, request: Any, answer: Any) -> None:
        if self._client is None:
            raise self._dead()
        await self._client.call(self._service, method, request, answer, metadata=self._metadata)

    def _silence(self) -> None:
        self.silent = True
        self._logger.warning("its shim does not answer", pid=self._peer())
        now = asyncio.get_running_loop().time()
        for limit in self._pending:
            if not limit.expired():
                limit.reschedule(now)

    def _lost(self) -> None:
        self._end_vigil()
        if not self.gone.done():
            self.gone.set_result(None)
