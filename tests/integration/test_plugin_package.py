"""A stranger's plugin, installed with pip: picked up, opened, shown; a broken one is shown too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from tests import daemons
from tests.patience import eventually

pytestmark = [pytest.mark.root, pytest.mark.slow]

# the tests have a network of their own, without a registry: what builds is installed here
PIP = (
    *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"),
    "--no-build-isolation",
)
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "cored-tiny"
version = "1.0"
dependencies = []

[project.entry-points."cored.plugins"]
tiny = "cored_tiny"
broken = "cored_tiny_broken"
logs = "my_logs"

[tool.hatch.build.targets.wheel]
packages = ["cored_tiny.py", "cored_tiny_broken.py", "my_logs.py"]
only-include = ["cored_tiny.py", "cored_tiny_broken.py", "my_logs.py"]
"""
TINY = '''
"""A snapshotter of a stranger's, and an observer of events."""

from contextlib import asynccontextmanager
from pathlib import Path

from cored.abc.values import Mount
from cored.abc.volumes import VolumeDriver
from cored.hookspecs import Provider, hookimpl
from cored.layered import LayerDriver, LayeredSnapshotter


class TinyDriver(LayerDriver):
    """Plain directories: a child starts empty."""

    def prepare(self, layer):
        (layer.directory / "fs").mkdir()

    def mounts(self, layer):
        return [Mount("bind", str(layer.directory / "fs"), options=("rbind", "rw"))]


@asynccontextmanager
async def opened(context):
    (context.root / "greeting").write_text(context.settings.get("greeting", "none"))
    async with LayeredSnapshotter.opened(TinyDriver(), context.root) as snapshotter:
        yield snapshotter


@hookimpl
def cored_snapshotter():
    return Provider("tiny", opened, capabilities=("small",))


class Marked(VolumeDriver):
    """Volumes that come with a file."""

    def check(self, options):
        pass

    def create(self, volume, place):
        (place / "files").mkdir()
        (place / "files" / "mark").write_text(volume.name)

    def remove(self, volume, place):
        pass

    def directory(self, volume, place):
        return place / "files"

    def attach(self, volume, place):
        pass

    def detach(self, volume, place):
        pass


@asynccontextmanager
async def marked(context):
    yield Marked()


@hookimpl
def cored_volume_driver():
    return Provider("marked", marked)


@hookimpl
def cored_event(envelope):
    if envelope.topic == "/namespaces/create":
        Path(__file__).with_name("cored_tiny.seen").write_text(envelope.namespace)
'''
BROKEN = '''
"""Fails when it is opened."""

from contextlib import asynccontextmanager

from cored.hookspecs import Provider, hookimpl


@asynccontextmanager
async def opened(context):
    raise RuntimeError("the disk has gone fishing")
    yield


@hookimpl
def cored_snapshotter():
    return Provider("broken", opened)
'''


def documented(module: str) -> str:
    """A module that the README shows."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    block = text[text.index(f"    # {module}.py") :]
    return textwrap.dedent(block[: re.search(r"^(?=\S)", block, re.MULTILINE).start()])  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that sees this environment, and the tiny package pip-installed over it."""
    place = tmp_path_factory.mktemp("tiny")
    (place / "pyproject.toml").write_text(PROJECT)
    (place / "cored_tiny.py").write_text(TINY)
    (place / "cored_tiny_broken.py").write_text(BROKEN)
    (place / "my_logs.py").write_text(documented("my_logs"))
    environment = place / "venv"
    venv.create(environment, with_pip=False)
    installed = next((environment / "lib").glob("python*/site-packages"))
    (installed / "outer.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in sys.path if path)
    )
    subprocess.run(
        [*PIP, "--target", installed, place],
        check=True,
    )
    return environment / "bin" / "python"


def test_it_is_found_opened_and_shown(python: Path) -> None:
    config = '[plugins.snapshotter.tiny]\ngreeting = "hello"\n'
    with daemons.cored(config, python=str(python)) as daemon:
        rows = [line.split() for line in daemon.ctr("plugins", "ls").stdout.splitlines()[1:]]
        states = {row[1]: row[-1] for row in rows if row and row[0].endswith("snapshotter.v1")}
        assert states["tiny"] == "ok"
        assert states["broken"] == "error"
        assert states["overlayfs"] == "ok"
        assert "gone fishing" in daemon.ctr("plugins", "ls", "-d", "id==broken").stdout
        assert (daemon.home / "root/snapshotter.tiny/greeting").read_text() == "hello"
        daemon.ctr("snapshots", "--snapshotter", "tiny", "prepare", "mine")
        assert "mine" in daemon.ctr("snapshots", "--snapshotter", "tiny", "ls").stdout
        daemon.ctr("snapshots", "--snapshotter", "tiny", "rm", "mine")
        daemon.corectl("volume", "create", "-d", "marked", "vol", check=True)
        (volume,) = json.loads(daemon.corectl("volume", "inspect", "vol", check=True).stdout)
        assert volume["Driver"] == "marked"
        assert Path(volume["Mountpoint"], "mark").read_text() == "vol"
        daemon.corectl("volume", "rm", "vol", check=True)
        daemon.ctr("namespaces", "create", "noticed")
        assert next(python.parents[1].rglob("cored_tiny.seen")).read_text() == "noticed"


@pytest.mark.parametrize("mode", ["blocking", "non-blocking"])
def test_a_log_driver_of_its_own_writes_on_without_the_daemon(
    python: Path, busybox: Path, tmp_path: Path, mode: str
) -> None:
    with daemons.cored(python=str(python)) as daemon:
        daemon.ctr("images", "import", str(busybox))
        with_it = ["run", "-d", "--name", "loud", "--log-driver", "shout", "--log-opt"]
        done = daemon.corectl(*with_it, "loud-place=/nowhere", "busybox", "true")
        assert b"loud-place: must be a directory" in done.stderr
        more = [f"loud-place={tmp_path}", "--log-opt", f"mode={mode}"]
        script = "for n in 1 2 3 4 5; do echo line $n; sleep 0.3; done; echo bye >&2; sleep 1000"
        daemon.corectl(*with_it, *more, "busybox", "sh", "-c", script, check=True)
        written = tmp_path / "loud"
        eventually(lambda: written.exists() and b"LINE 1" in written.read_bytes())
        daemon.kill()
        eventually(lambda: b"BYE" in written.read_bytes())
        daemon.start()
        lines = [f"stdout: LINE {n}" for n in range(1, 6)] + ["stderr: BYE"]
        assert written.read_text().splitlines() == lines
        kept = daemon.corectl("logs", "loud", check=True)
        assert kept.stdout.decode() == "".join(f"line {n}\n" for n in range(1, 6))
        assert kept.stderr == b"bye\n"
        shutil.rmtree(tmp_path)
        failed = daemon.corectl("restart", "-t", "0", "loud")
        assert failed.returncode == 1
        assert f"log driver: [Errno 2] No such file or directory: '{written}'" in (
            failed.stderr.decode()
        )
        daemon.corectl("rm", "-f", "loud", check=True)
