"""What a short command loads, and what it says when nobody answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

import cored
from cored._pb.containerd.services.version.v1 import version_pb2
from cored.abc.service import Service
from tests.servers import Processes, serving

HEAVY = ("grpc", "rich", "urllib3", "asyncio", "structlog", "pluggy", "sqlite3", "pyroute2",
         "uvloop", "importlib.metadata", "tempfile", "concurrent.futures", "json",
         "cored._pb.cored.workloads.v1.workloads_pb2")  # fmt: skip


class Versions(Service):
    service = "containerd.services.version.v1.Version"
    scoped = False

    async def Version(self, request: Empty) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version="v2.1.0+test")


@pytest.fixture
def address(short_tmp: Path) -> Iterator[Path]:
    with serving(short_tmp / "sock", Versions(), Processes()) as server:
        yield server.address


def corectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corectl", *arguments], capture_output=True, text=True, check=False
    )


def test_version_shows_both_sides(address: Path) -> None:
    done = corectl("--address", str(address), "version")
    assert done.stdout == f"corectl  {cored.__version__}\ncored    v2.1.0+test\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_version_imports_no_more_than_it_needs(address: Path) -> None:
    script = (
        "import sys\n"
        "from corectl.program import main\n"
        "code = main(sys.argv[1].split())\n"
        "print(code, [m for m in sys.argv[2].split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"--address {address} version", " ".join(HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(("command", "code"), [("version", 1), ("ps", 1), ("run busybox", 125)])
def test_no_daemon_is_one_clear_line(tmp_path: Path, command: str, code: int) -> None:
    done = corectl("--address", str(tmp_path / "sock"), *command.split())
    assert done.stderr == (
        f"corectl: daemon at {tmp_path / 'sock'}: not running (start it with: cored)\n"
    )
    assert done.returncode == code


def test_debug_shows_where(tmp_path: Path) -> None:
    done = corectl("--debug", "--address", str(tmp_path / "sock"), "ps")
    assert "Traceback" in done.stderr


def test_a_reader_that_has_gone_is_no_trouble() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "corectl", "man"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("nonsense", 2, "No such command 'nonsense'"),
        ("run --nonsense busybox", 125, "run: No such option '--nonsense'"),
        ("run", 125, "run: Missing argument 'IMAGE'"),
        ("image nonsense", 2, "image: No such command 'nonsense' (see"),
        ("pss", 2, "No such command 'pss': did you mean 'ps'? (see: corectl --help)"),
        ("st", 2, "did you mean 'start', 'stats' or 'stop'?"),
        ("compose ups", 2, "compose: No such command 'ups': did you mean 'up' or 'ps'?"),
        ("ls", 2, "did you mean 'container ls', 'image ls' or 'volume ls'?"),
        (
            "run --vol x busybox",
            125,
            "No such option '--vol': did you mean '--volume', '--volume-driver'",
        ),
        ("ps --formta x", 2, "ps: No such option '--formta': did you mean '--format'?"),
        ("--hots x ps", 2, "No such option '--hots': did you mean '--host'?"),
        ("kill", 2, "kill: Missing argument"),
        ("kill -s NONSENSE x", 2, "NONSENSE"),
        ("logs --tail many x", 2, "many"),
    ],
)
def test_wrong_usage_is_one_clear_line(arguments: str, code: int, words: str) -> None:
    done = corectl(*arguments.split())
    assert done.returncode == code
    assert done.stderr.startswith("corectl: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "--help" in done.stderr


@pytest.mark.parametrize("arguments", ["", "image"])
def test_a_group_alone_shows_its_help(arguments: str) -> None:
    done = corectl(*arguments.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Commands:" in done.stderr


def test_a_reader_that_goes_away_is_no_error(address: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "corectl", "--address", str(address), "images"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    with running.stderr:
        assert running.stderr.read() == b""
    assert running.wait(60) != 0


def test_several_names_are_each_tried(address: Path) -> None:
    done = corectl("--address", str(address), "rmi", "nothing", "busybox", "neither")
    assert done.stdout == "Untagged: busybox:latest\n"
    assert done.stderr.splitlines() == [
        "corectl: image 'nothing': not found",
        "corectl: image 'neither': not found",
    ]
    assert done.returncode == 1


def test_json_is_for_programs(address: Path) -> None:
    import json

    done = corectl("--address", str(address), "images", "--format", "json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["Repository"] == "busybox"
