"""Containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cored._pb.cored.workloads.v1 import processes_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.api import conversion
from cored.client.api.container_files import FileVerbs
from cored.client.api.options import ContainerOptions, configured, policy
from cored.client.api.sessions import Session, Streams
from cored.client.api.values import CommandFailed, Container, Output, Pruned
from cored.client.api.watching import WatchingVerbs

if TYPE_CHECKING:
    from typing import Unpack

    from cored.client.channel import Pending
    from cored.client.client import Client

__all__ = ["Containers"]


class Containers(FileVerbs, WatchingVerbs):
    """``container`` is an id, a unique beginning of one, or a name.

    NotFound when there is none, FailedPrecondition when it is not in the state that is needed.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._calls = client.workloads

    def create(
        self, image: str, command: Sequence[str] = (), **options: Unpack[ContainerOptions]
    ) -> Container:
        """Make a container without starting it. NotFound when the image is not there: pull it."""
        made = self._calls.create(configured(image, command, options))
        return self.get(made.id)

    def start(self, container: str) -> None:
        """Start one that does not run."""
        self._calls.start(container)

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes = b"",
        check: bool = True,
        **options: Unpack[ContainerOptions],
    ) -> Output:
        """Run a container to its end, remove it, and answer what it wrote.

        CommandFailed for an exit status other than 0, unless ``check`` is False.

        >>> client.containers.run("busybox", ["echo", "hello"]).text
        'hello\\n'
        """
        options["auto_remove"] = True
        with self.begin(image, command, stdin=bool(input), **options) as session:
            output = session.communicate(input)
        if check and output.exit_status:
            raise CommandFailed(f"container {session.id[:12]!r}", output)
        return output

    def begin(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        **options: Unpack[ContainerOptions],
    ) -> Session:
        """Make a container and start it with its streams in our hands.

        >>> with client.containers.begin("busybox", ["cat"], stdin=True, auto_remove=True) as cat:
        ...     cat.communicate(b"there and back").stdout
        b'there and back'
        """
        config = configured(image, command, options)
        config.open_stdin = config.open_stdin or stdin
        streams = Streams(self._client.channel, stdin=config.open_stdin, terminal=config.terminal)
        try:
            paths = streams.paths
            stdio = pb.Stdio(stdin=paths.stdin, stdout=paths.stdout, stderr=paths.stderr)
            id = self._calls.create(config, stdio).id
            waiting = self._calls.wait(id)
            try:
                self._calls.start(id)
            except BaseException:
                waiting.cancel()
                self._calls.remove(id, force=True)
                raise
        except BaseException:
            streams.close()
            raise
        return self._joined(id, streams, waiting)

    def attach(self, container: str, *, stdin: bool = False) -> Session:
        """Join the streams of one that runs, beside whoever else does: what it writes from now on.

        Its end is awaited from now on, too: of one that removes itself it is known all the same.
        """
        found = self._calls.inspect(container)
        id = found.container.id
        terminal = found.config.terminal
        streams = Streams(self._client.channel, stdin=stdin, terminal=terminal, container=id)
        return self._joined(id, streams, self._calls.wait(id))

    def exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        input: bytes = b"",
        check: bool = True,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
        privileged: bool = False,
    ) -> Output:
        """Run a command in one that runs, to its end. CommandFailed as for :meth:`run`."""
        with self.begin_exec(
            container,
            command,
            stdin=bool(input),
            env=env,
            user=user,
            working_directory=working_directory,
            privileged=privileged,
        ) as session:
            output = session.communicate(input)
        if check and output.exit_status:
            raise CommandFailed(f"container {container!r}: {' '.join(command)}", output)
        return output

    def begin_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        terminal: bool = False,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
        privileged: bool = False,
    ) -> Session:
        """Start a command in one that runs, with its streams in our hands."""
        calls = self._calls
        streams = Streams(self._client.channel, stdin=stdin, terminal=terminal, drop=True)
        try:
            begun = calls.exec(
                processes_pb2.ExecRequest(
                    container=container,
                    args=command,
                    env=[f"{name}={value}" for name, value in (env or {}).items()],
                    user=user,
                    working_directory=working_directory,
                    privileged=privileged,
                    terminal=terminal,
                    stdin=streams.paths.stdin,
                    stdout=streams.paths.stdout,
                    stderr=streams.paths.stderr,
                )
            )
        except BaseException:
            streams.close()
            raise
        return Session(
            begun.exec_id,
            streams,
            lambda: calls.wait_exec(container, begun.exec_id).result().exit_status,
            lambda number: calls.kill_exec(container, begun.exec_id, number),
            lambda columns, rows: calls.resize_exec(container, begun.exec_id, columns, rows),
        )

    def stop(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop signal, and SIGKILL after ``timeout`` seconds; None is its own, or 10."""
        self._calls.stop(container, timeout, signal=signal)

    def restart(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop it, if it runs, and start it."""
        self._calls.restart(container, timeout, signal)

    def kill(self, container: str, signal: int = 9) -> None:
        """Send its first process a signal, by number."""
        self._calls.kill(container, signal)

    def pause(self, container: str) -> None:
        """Freeze all its processes."""
        self._calls.pause(container)

    def unpause(self, container: str) -> None:
        """Let them go on."""
        self._calls.unpause(container)

    def wait(self, container: str) -> int:
        """Its exit status, once it has ended."""
        return self._calls.wait(container).result().exit_status

    def rename(self, container: str, name: str) -> None:
        """Give it another name. AlreadyExists."""
        self._calls.rename(container, name)

    def update(
        self,
        container: str,
        *,
        memory: int = 0,
        cpus: float = 0.0,
        pids: int = 0,
        restart: str = "",
    ) -> None:
        """Change limits (bytes; how many CPUs; processes) and the restart policy."""
        limits = pb.Resources(memory_limit=memory, nano_cpus=round(cpus * 1e9), pids_limit=pids)
        changed = policy(restart) if restart else None
        self._calls.update(pb.UpdateRequest(container=container, resources=limits, restart=changed))

    def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; with ``force`` also when it runs, with ``volumes`` its anonymous ones, too."""
        self._calls.remove(container, force=force, volumes=volumes)

    def prune(self, filters: Sequence[str] = ()) -> Pruned:
        """Remove those that do not run."""
        return conversion.value(Pruned, self._calls.prune_containers(filters))

    def get(self, container: str) -> Container:
        """One."""
        return conversion.value(Container, self._calls.inspect(container).container)

    def list(self, *, all: bool = False, filters: Sequence[str] = ()) -> list[Container]:
        """Those that run, or all; ``filters`` are docker's: ``label=app=shop``."""
        found = self._calls.containers(everyone=all, filters=filters)
        return [conversion.value(Container, one) for one in found]

    def _joined(self, id: str, streams: Streams, waiting: Pending[pb.WaitResponse]) -> Session:
        session = Session(
            id,
            streams,
            lambda: waiting.result().exit_status,
            lambda number: self._calls.kill(id, number),
            lambda columns, rows: self._calls.resize(id, columns, rows),
        )
        session.at_close(waiting.interrupt)
        session.at_close(waiting.cancel)
        return session
