"""What can be asked of a project besides up and down."""

from __future__ import annotations

import json
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.patience import eventually
from tests.projects import Compose, project
from tests.registries import registry

pytestmark = pytest.mark.root

ONE = """
services:
  one:
    image: busybox
    entrypoint: [sh, -c]
    command: ["trap 'exit 7' TERM; echo begun; while read l; [ $$l ]; do echo got $$l; done"]
    stdin_open: true
    ports: ["127.0.0.1:7070:80"]
  two: {image: busybox, command: sleep 1000, stop_signal: KILL}
"""


@pytest.fixture
def compose(daemon: Daemon, tmp_path: Path) -> Iterator[Compose]:
    place = tmp_path / "shop"
    place.mkdir()
    with project(daemon, place) as made:
        made.write(ONE)
        yield made


def test_containers_are_watched_and_waited_for(compose: Compose) -> None:
    compose("up", "-d")
    events = compose.begin("events", "--json", "two")
    assert events.stdout is not None
    try:
        # what it tells of shows that it is there
        while not select.select([events.stdout], [], [], 0.2)[0]:
            compose("pause", "two")
            compose("unpause", "two")
        compose("up", "-d", "--force-recreate", "two")
        seen = []
        while not seen or seen[-1]["action"] != "start":
            seen.append(json.loads(events.stdout.readline()))
    finally:
        events.send_signal(signal.SIGINT)
        events.communicate(timeout=60)
    actions = [one["action"] for one in seen]
    assert actions[0] in ("pause", "unpause")
    assert [one for one in actions if one in ("create", "start")] == ["create", "start"]
    assert {one["service"] for one in seen} == {"two"}
    eventually(lambda: "begun" in compose("logs", "one").stdout)
    waiting = compose.begin("wait", "one")
    compose("stop", "-t", "60", "one")
    out, errors = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (7, "7\n"), errors
    compose("pause", "two")
    assert compose.ps()["shop-two-1"]["State"] == "paused"
    compose("unpause", "two")
    assert compose.ps()["shop-two-1"]["State"] == "running"
    assert "sleep 1000" in compose("top").stdout
    usage = json.loads(compose("stats", "--no-stream", "--format", "json", "two").stdout)
    assert usage["Name"] == "shop-two-1"


def test_a_container_is_joined(compose: Compose) -> None:
    compose("up", "-d")
    joined = subprocess.run(
        compose.command("attach", "one"),
        cwd=compose.place,
        env=compose.environ,
        input="a\nb\n\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert joined.returncode == 0, joined
    lines = [line for line in joined.stdout.splitlines() if line.startswith("got")]
    assert lines == ["got a", "got b"]


def test_what_there_is_is_listed(compose: Compose) -> None:
    compose("up", "-d")
    assert compose("port", "one", "80").stdout == "127.0.0.1:7070\n"
    assert compose("port", "one", "81", code=1).stderr != ""
    (row,) = json.loads(compose("ls", "--format", "json").stdout)
    assert (row["Name"], row["Status"]) == ("shop", "running(2)")
    images = json.loads(compose("images", "--format", "json").stdout)
    assert sorted(one["ContainerName"] for one in images) == ["shop-one-1", "shop-two-1"]
    assert compose("version", "--short").stdout.strip()


def test_images_are_pushed_and_pulled(compose: Compose, tmp_path: Path) -> None:
    place = tmp_path / "registry"
    place.mkdir()
    with registry(place) as there:
        compose.write(
            f"""
services:
  a: {{image: "{there.host}/a:1", build: {{context: ., dockerfile_inline: FROM busybox}}}}
  b: {{image: "{there.host}/none:1", pull_policy: never}}
"""
        )
        compose("build", "a")
        compose("push", "a")
        compose.daemon.corectl("rmi", f"{there.host}/a:1", check=True)
        assert "none" in compose("pull", code=1).stderr
        compose("pull", "a")
        compose.daemon.corectl("image", "inspect", f"{there.host}/a:1", check=True)
        compose.daemon.corectl("rmi", f"{there.host}/a:1", check=True)
        assert "none" in compose("pull", "--ignore-pull-failures").stderr
