"""A hundred containers, while daemon, shims and containers are killed at random.

``CORED_CHAOS=300`` for so many containers, ``CORED_CHAOS_SEED`` for the order of a run that failed
(the kills meet a different moment each time all the same).
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from coreshim.shim import socket_path

from tests import chaos, daemons
from tests.daemons import Daemon
from tests.living import glob
from tests.tasks import Container, rootfs

pytestmark = [pytest.mark.root, pytest.mark.slow]
CGROUP = "cored-chaos"
COUNT = int(os.environ.get("CORED_CHAOS", "100"))
AT_A_TIME = 20
# shims go to sleep in the midst of it
SLEEPY = "[plugins.runtime.shim]\nidle = 0.2\n"
OURS = "io.containerd.runc.v2"
FOREIGN = shutil.which("containerd-shim-runc-v2")


def left(daemon: Daemon, lives: list[chaos.Life]) -> list[str]:
    """Whatever there still is of the containers."""
    state = daemon.home / "state/runtime.shim"
    assert daemon.process is not None
    mounts = Path(f"/proc/{daemon.process.pid}/mounts").read_text().splitlines()
    sockets = [socket_path(str(daemon.address), "default", life.box.id) for life in lives]
    return [
        *chaos.processes(f"{state}/default/", f"/{CGROUP}/"),
        *(line for line in mounts if f"{state}/" in line),
        *map(str, glob(Path("/sys/fs/cgroup"), f"*/{CGROUP}/*/")),
        *(path for path in sockets if os.path.exists(path)),
        *map(str, (state / "default").glob("*")),
        *map(str, (state / ".runtime/default").glob("*")),
        *(str(path) for path in glob(daemon.home, "**/*") if path.is_fifo()),
    ]


def test_every_exit_is_right_every_log_whole_and_nothing_is_left(tmp_path: Path) -> None:
    seed = int(os.environ.get("CORED_CHAOS_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    rng = random.Random(seed)
    turns = threading.Semaphore(AT_A_TIME)
    with rootfs(tmp_path / "root", CGROUP) as root, daemons.cored(SLEEPY) as daemon:
        client = chaos.steady(daemon)
        lives = []
        for number in range(COUNT):
            fifo = None
            if number % 2:
                fifo = tmp_path / f"fifo{number}"
                os.mkfifo(fifo)
            box = Container(client, root, CGROUP, f"chaos{number}")
            log = tmp_path / f"log{number}"
            own = random.Random(rng.random())
            # a few with containerd's shim, which does not survive execs whose start nobody awaits
            runtime = FOREIGN if FOREIGN and number % 10 == 4 else OURS
            exec_code = number % 90 + 2 if number % 3 and runtime == OURS else None
            lives.append(chaos.Life(box, fifo, log, number % 100 + 1, exec_code, runtime, own))

        def live(life: chaos.Life) -> None:
            with turns:
                life.live()

        storm, exits = chaos.Chaos(daemon, lives, rng), chaos.Exits(daemon)
        threads = [threading.Thread(target=live, args=(life,)) for life in lives]
        with exits.watched():
            with storm.going_on():
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        print(dict(storm.done), f"{len(exits.seen)} exits seen")
        assert storm.failure is None, daemon.log[-4000:]
        problems = [problem for life in lives for problem in life.problems()]
        twice = {key: count for key, count in exits.seen.items() if count > 1}
        told = {
            (life.box.id, life.box.id): exits.statuses.get((life.box.id, life.box.id), life.status)
            for life in lives
        }
        wrong = [life.box.id for life in lives if told[life.box.id, life.box.id] != life.status]
        assert (problems, twice, wrong) == ([], {}, [])
        assert storm.done["daemon"] and storm.done["shim"] and storm.done["init"]
        for life in lives:
            if life.fifo:
                life.fifo.unlink()
        end = time.monotonic() + 60
        while (remains := left(daemon, lives)) and time.monotonic() < end:
            time.sleep(0.1)
        assert "\n".join(remains) == ""
        client.close()
