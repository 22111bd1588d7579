"""Output to a program (``binary://``): containerd's logging binaries under our shim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import patience, shims
from tests.shims import Refused, Zygote

pytestmark = pytest.mark.root
# writes what it gets beside itself, and says that it is ready as the protocol has it
LOGGER = """#!/bin/sh
echo "$CONTAINER_NAMESPACE/$CONTAINER_ID $*" > {place}/called
cat <&3 5>&- > {place}/out &
cat <&4 5>&- > {place}/err &
exec 3<&- 4<&- 5>&-
wait
echo done >> {place}/called
"""


@pytest.fixture
def runc(short_tmp: Path) -> Iterator[Zygote]:
    with shims.zygote(short_tmp, "/usr/sbin/runc", fast=True) as running:
        yield running


@pytest.fixture
def logger(tmp_path: Path) -> Path:
    path = tmp_path / "logger"
    path.write_text(LOGGER.format(place=tmp_path))
    path.chmod(0o755)
    return path


def eventually(path: Path, text: str) -> None:
    patience.eventually(lambda: path.exists() and text in path.read_text())


def test_a_logger_gets_both_streams_and_its_arguments(runc: Zygote, logger: Path) -> None:
    task = runc.task("sh", "-c", "seq 1 100000; echo error >&2")
    task.create(stdout=f"binary://{logger}?--level=debug&--plain", stderr=f"binary://{logger}")
    task.start()
    assert task.wait().exit_status == 0
    eventually(logger.parent / "called", "done")
    assert (logger.parent / "called").read_text().splitlines() == [
        f"tests/{task.id} --level debug --plain",
        "done",
    ]
    assert (logger.parent / "out").read_text() == "".join(f"{n}\n" for n in range(1, 100_001))
    assert (logger.parent / "err").read_text() == "error\n"
    task.delete()


def test_a_terminal_s_output_goes_to_a_logger_too(runc: Zygote, logger: Path) -> None:
    task = runc.task("sh", "-c", "tty; echo from a terminal", terminal=True)
    task.create(stdout=f"binary://{logger}", terminal=True)
    task.start()
    task.wait()
    task.delete()
    eventually(logger.parent / "called", "done")
    assert (logger.parent / "out").read_bytes() == b"/dev/pts/0\r\nfrom a terminal\r\n"


def test_a_logger_that_cannot_be_run_is_an_error(runc: Zygote, tmp_path: Path) -> None:
    task = runc.task("true")
    with pytest.raises(Refused, match="cannot be run"):
        task.create(stdout=f"binary://{tmp_path}/none")


def test_a_logger_that_ends_at_once_holds_nobody_up(runc: Zygote, tmp_path: Path) -> None:
    quitter = tmp_path / "quitter"
    quitter.write_text("#!/bin/sh\nexit 0\n")
    quitter.chmod(0o755)
    task = runc.task("sh", "-c", "trap '' PIPE; echo lost; exit 3")
    task.create(stdout=f"binary://{quitter}")
    task.start()
    assert task.wait().exit_status == 3
    task.delete()
