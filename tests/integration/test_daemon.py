"""The daemon as a process: its flags, its lock, its socket, its end."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from cored.client.channel import Channel
from cored.client.workloads import Workloads
from tests import daemons
from tests.patience import eventually

pytestmark = pytest.mark.root
COMMAND = (sys.executable, "-m", "cored")


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )  # type: ignore[call-overload]


def test_default_and_effective_configuration_are_shown(tmp_path: Path) -> None:
    import tomllib

    default = tomllib.loads(run("config", "default").stdout)
    assert default["address"] == "/run/cored/cored.sock"
    assert (default["root"], default["state"]) == ("/var/lib/cored", "/run/cored")
    file = tmp_path / "config.toml"
    file.write_text('snapshotter = "native"\n[plugins.runtime.shim]\nruntime = "crun"\n')
    shown = tomllib.loads(run("--config", str(file), "--address", "/x", "config", "dump").stdout)
    assert (shown["snapshotter"], shown["address"]) == ("native", "/x")
    assert shown["plugins"]["runtime"]["shim"]["runtime"] == "crun"


@pytest.mark.parametrize(
    ("text", "words"),
    [("snapshoter = 'x'", "snapshoter"), ("address = 3", "address"), ("[", "config.toml")],
)
def test_a_bad_configuration_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    done = run("--config", str(file))
    assert done.returncode == 1
    assert done.stderr.startswith("cored: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_root_it_says_so(tmp_path: Path) -> None:
    # everything is imported first: the interpreter's own files may be closed to others
    script = (
        "import os, sys, cored.__main__ as m, cored.daemon, cored.log, uvloop; os.setuid(65534);"
        f"sys.exit(m.main(['--root', '{tmp_path}/r', '--address', '{tmp_path}/a']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_the_socket_is_closed_to_others() -> None:
    with daemons.cored() as daemon:
        status = daemon.address.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert (status.st_uid, status.st_gid) == (0, 0)
        assert stat.S_IMODE((daemon.home / "sock.ttrpc").stat().st_mode) == 0o600


def test_health_and_reflection_answer() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with daemons.cored() as daemon, grpc.insecure_channel(f"unix:{daemon.address}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = stub.ServerReflectionInfo(iter([asked]))
        names = {service.name for service in listed.list_services_response.service}
        assert "containerd.services.tasks.v1.Tasks" in names
        assert "cored.workloads.v1.Workloads" in names


def test_a_call_without_a_namespace_is_refused() -> None:
    with daemons.cored() as daemon, grpc.insecure_channel(f"unix:{daemon.address}") as channel:
        call = channel.unary_unary("/containerd.services.containers.v1.Containers/List")
        with pytest.raises(grpc.RpcError) as error:
            call(b"")
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        missing = channel.unary_unary("/containerd.services.content.v1.Content/NoSuchThing")
        with pytest.raises(grpc.RpcError) as error:
            missing(b"", metadata=(("containerd-namespace", "x"),))
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_sigterm_lets_a_call_finish(busybox: Path, tmp_path: Path) -> None:
    """A container that is about to end is still waited for; then the daemon goes."""
    with daemons.cored("[grpc]\nshutdown_grace = 120.0\n") as daemon:
        daemon.corectl("image", "import", str(busybox), check=True)
        script = "while [ ! -e /w/go ]; do sleep 0.1; done; exit 11"
        run = ("run", "-d", "-v", f"{tmp_path}:/w", "busybox", "sh", "-c", script)
        id = daemon.corectl(*run, check=True).stdout.decode().strip()
        with Channel(str(daemon.address), namespace="default") as channel:
            waiting = Workloads(channel).wait(id)
            Workloads(channel).inspect(id)  # came on the same connection, after the other
            assert daemon.process is not None
            daemon.process.terminate()
            eventually(lambda: not daemon.answers())
            (tmp_path / "go").touch()
            assert waiting.result().exit_status == 11
        assert daemon.process.wait(60) == 0
        assert not daemon.address.exists()


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "n"))
        channel.settimeout(20)
        with daemons.home("cdn") as place:
            command = [*COMMAND, "--address", f"{place}/sock", "--root", f"{place}/root"]
            process = subprocess.Popen(
                [*command, "--state", f"{place}/state"],
                env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "n")},
                stderr=subprocess.DEVNULL,
            )
            assert channel.recv(100) == b"READY=1"
            process.terminate()
            assert channel.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0


def test_logs_are_json_with_the_request_and_its_namespace() -> None:
    with daemons.cored() as daemon:
        daemon.ctr("-n", "some", "containers", "info", "nothing", check=False)
        lines = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
    failed = next(line for line in lines if line.get("event") == "call failed")
    assert failed["namespace"] == "some"
    assert failed["request"] > 0


def test_a_store_survives_being_killed_in_the_middle(busybox: Path) -> None:
    """Imports and removals, and SIGKILL at any moment of them; it opens and works every time."""
    with daemons.cored() as daemon:
        for moment in (0.02, 0.05, 0.1, 0.15, 0.25):
            client = threading.Thread(
                target=lambda: daemon.corectl("image", "import", str(busybox))
            )
            client.start()
            time.sleep(moment)
            daemon.kill()
            client.join()
            daemon.start()
        daemon.corectl("image", "import", str(busybox), check=True)
        done = daemon.corectl("run", "--rm", "busybox", "echo", "well")
        assert done.stdout == b"well\n"

        def shown() -> str:
            return daemon.ctr("snapshots", "ls").stdout

        eventually(lambda: "extract-" not in shown(), why=shown)
        assert shown().count("Committed") == 1
