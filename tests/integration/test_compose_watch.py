"""compose watch against a real daemon: files that change here are changed there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.projects import Compose, project

pytestmark = pytest.mark.root

WATCHED = """
services:
  web:
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        COPY base /base
        CMD ["sleep", "1000"]
    stop_signal: KILL
    develop:
      watch:
        - {path: src, action: sync, target: /app, initial_sync: true}
        - {path: base, action: rebuild}
  job:
    image: busybox
    command: sleep 1000
    stop_signal: KILL
    develop:
      watch:
        - {path: conf, action: sync+restart, target: /conf}
        - path: hooked
          action: sync+exec
          target: /hooked
          exec: {command: sh -c "cat /hooked >> /seen"}
"""


@pytest.fixture
def compose(daemon: Daemon, tmp_path: Path) -> Iterator[Compose]:
    place = tmp_path / "shop"
    (place / "src/d").mkdir(parents=True)
    for path in ("src/a", "src/d/b", "base", "conf", "hooked"):
        (place / path).write_text("first\n")
    with project(daemon, place) as made:
        made.write(WATCHED)
        yield made


def within(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_containers_follow_their_files(compose: Compose) -> None:
    def says(service: str, path: str) -> str:
        done = compose.daemon.corectl("exec", f"shop-{service}-1", "cat", path)
        return done.stdout.decode()

    watching = compose.begin("watch")
    assert watching.stdout is not None
    try:
        lines = []
        while not lines or lines[-1] != "Watch enabled\n":
            lines.append(watching.stdout.readline())
            assert lines[-1], watching.communicate(timeout=60)
        assert says("web", "/app/d/b") == "first\n"
        before = compose.ids()
        (compose.place / "src/a").write_text("second\n")
        (compose.place / "src/d/b").unlink()
        within(lambda: says("web", "/app/a") == "second\n" and not says("web", "/app/d/b"))
        (compose.place / "hooked").write_text("hooked\n")
        within(lambda: says("job", "/seen") == "hooked\n")
        began = compose.daemon.corectl("inspect", "-f", "{{.State.StartedAt}}", "shop-job-1").stdout
        (compose.place / "conf").write_text("new\n")
        within(lambda: says("job", "/conf") == "new\n")
        inspect = ("inspect", "-f", "{{.State.StartedAt}}", "shop-job-1")
        within(lambda: compose.daemon.corectl(*inspect).stdout not in (began, b""))
        assert compose.ids() == before
        (compose.place / "base").write_text("third\n")
        within(lambda: says("web", "/base") == "third\n")
        assert compose.ids()["shop-job-1"] == before["shop-job-1"]
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert watching.returncode == 130


def test_without_rules_there_is_nothing_to_watch(compose: Compose) -> None:
    compose.write("services: {a: {image: busybox}}")
    assert "no service is to be watched" in compose("watch", code=1).stderr
