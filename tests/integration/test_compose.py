"""corectl compose against a real daemon: applications up, changed, down to nothing."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.patience import eventually
from tests.projects import Compose, leftovers, project

pytestmark = pytest.mark.root

SHOP = """
services:
  web:
    image: busybox
    command: [sh, -c, "wget -qO- http://db:8080/index && echo served && exec sleep 1000"]
    stop_signal: SIGKILL
    environment: {COLOUR: "${COLOUR:-blue}"}
    depends_on: {db: {condition: service_healthy}}
    networks: {default: {aliases: [frontend]}}
    configs: [{source: greeting, target: /etc/greeting, mode: 0400}]
    secrets: [token]
    post_start: [{command: touch /hooked}]
  db:
    image: busybox
    command: [sh, -c, "echo data > /w/index; exec httpd -f -p 8080 -h /w"]
    stop_signal: SIGKILL
    volumes: ["data:/w"]
    ports: ["8080"]
    healthcheck: {test: wget -qO- http://localhost:8080/index, interval: 100ms}
    depends_on: {init: {condition: service_completed_successfully}}
  init:
    image: busybox
    command: [echo, ready]
configs: {greeting: {content: "hello\\n"}}
secrets: {token: {environment: TOKEN}}
volumes: {data: }
"""


@pytest.fixture
def compose(daemon: Daemon, tmp_path: Path) -> Iterator[Compose]:
    place = tmp_path / "shop"
    place.mkdir()
    with project(daemon, place) as made:
        yield made


def test_an_application_comes_up_in_the_order_of_its_conditions(compose: Compose) -> None:
    compose.write(SHOP)
    told = compose("up", "-d").stderr
    assert told.index("shop-init-1  Exited") < told.index("shop-db-1  Starting")
    assert told.index("shop-db-1  Healthy") < told.index("shop-web-1  Starting")
    found = compose.ps()
    assert {name: one["State"] for name, one in found.items()} == {
        "shop-web-1": "running",
        "shop-db-1": "running",
        "shop-init-1": "exited",
    }
    assert found["shop-db-1"]["Health"] == "healthy"
    served = compose("exec", "web", "wget", "-qO-", "http://db:8080/index").stdout
    assert served == "data\n"
    inside = "cat /etc/greeting /run/secrets/token; stat -c %a /etc/greeting; echo; ls /hooked"
    assert compose("exec", "web", "sh", "-c", inside).stdout == "hello\nhidden400\n\n/hooked\n"
    assert re.fullmatch(r"0\.0\.0\.0:\d+\n", compose("port", "db", "8080").stdout)
    eventually(lambda: "init-1  | ready" in compose("logs").stdout)
    assert compose("ps", "--services").stdout.split() == ["db", "web"]
    assert "shop" in compose("ls").stdout
    assert "busybox" in compose("images").stdout
    assert "httpd" in compose("top", "db").stdout
    assert "shop-db-1" in compose("stats", "--no-stream").stdout


def test_names_of_replicas_aliases_and_containers_resolve(compose: Compose) -> None:
    compose.write(
        """
services:
  a: {image: busybox, command: sleep 1000, stop_signal: KILL, scale: 2}
  b: {image: busybox, command: sleep 1000, stop_signal: KILL, networks: {default: {aliases: [x]}}}
"""
    )
    compose("up", "-d")
    for name, count in (("a", 2), ("shop-a-2", 1), ("x", 1), ("b", 1)):
        found = compose("exec", "b", "sh", "-c", f"nslookup {name} || true").stdout
        addresses = set(re.findall(r"^Address: ([\d.]+)$", found, re.MULTILINE))
        assert len(addresses) == count, (name, found)


def test_only_what_changed_is_made_again_and_volumes_stay(compose: Compose) -> None:
    compose.write(SHOP)
    compose("up", "-d")
    before = compose.ids()
    compose("exec", "db", "sh", "-c", "echo kept > /w/more")
    compose("up", "-d")
    assert compose.ids() == before
    compose.environ["COLOUR"] = "red"
    compose("up", "-d")
    after = compose.ids()
    assert {name for name in before if before[name] != after[name]} == {"shop-web-1"}
    assert compose("exec", "web", "sh", "-c", "echo $COLOUR").stdout == "red\n"
    compose("up", "-d", "--force-recreate")
    assert not set(after.values()) & set(compose.ids().values())
    assert compose("exec", "db", "cat", "/w/more").stdout == "kept\n"
    compose("down")
    compose("up", "-d")
    assert compose("exec", "db", "cat", "/w/more").stdout == "kept\n"


def test_scale_stop_start_kill_and_rm(compose: Compose) -> None:
    compose.write("services: {a: {image: busybox, command: sleep 1000, stop_signal: KILL}}\n")
    compose("up", "-d", "--scale", "a=3")
    assert sorted(compose.ps()) == ["shop-a-1", "shop-a-2", "shop-a-3"]
    compose("scale", "a=2")
    assert sorted(compose.ps()) == ["shop-a-1", "shop-a-2"]
    compose("stop")
    assert {one["State"] for one in compose.ps().values()} == {"exited"}
    compose("start")
    compose("restart")
    compose("pause")
    assert {one["State"] for one in compose.ps().values()} == {"paused"}
    compose("unpause")
    compose("kill", "a")
    compose("rm", "-f")
    assert compose.ps() == {}


def test_down_leaves_nothing_and_can_be_repeated(compose: Compose) -> None:
    compose.write(SHOP)
    compose("up", "-d")
    compose("run", "-d", "--no-deps", "web", "sleep", "1000")
    compose("down", "-v", "--remove-orphans", "-t", "0")
    assert leftovers(compose.daemon) == []
    compose("down", "-v", "--remove-orphans")


def test_what_a_file_no_longer_has_is_an_orphan(compose: Compose) -> None:
    compose.write("services: {a: {image: busybox, command: sleep 1000, stop_signal: KILL}}\n")
    compose("up", "-d")
    compose.write("services: {b: {image: busybox, command: sleep 1000, stop_signal: KILL}}\n")
    assert "shop-a-1" in compose("up", "-d").stderr
    assert "still in use" in compose("down").stderr
    assert list(compose.ps()) == ["shop-a-1"]
    compose("up", "-d", "--remove-orphans")
    assert list(compose.ps()) == ["shop-b-1"]


def test_a_dry_run_tells_the_steps_and_does_nothing(compose: Compose) -> None:
    compose.write(SHOP)
    told = compose("--dry-run", "up").stderr
    assert "DRY-RUN MODE -  Network shop_default  Created" in told
    assert told.index("Container shop-db-1  Ready") < told.index("Container shop-web-1  Starting")
    assert compose.ps() == {}
    compose("up", "-d")
    assert "Container shop-web-1  Removed" in compose("--dry-run", "down").stderr
    assert len(compose.ps()) == 3


def test_a_run_has_its_own_container_and_exit_code(compose: Compose) -> None:
    compose.write(SHOP)
    done = compose("run", "--rm", "-e", "X=y", "web", "sh", "-c", "echo $X; exit 3", code=3)
    assert done.stdout == "y\n"
    assert "shop-db-1" in compose.ps()
    assert not [name for name in compose.ps() if "run" in name]


def test_files_are_copied(compose: Compose, tmp_path: Path) -> None:
    compose.write("services: {a: {image: busybox, command: sleep 1000, stop_signal: KILL}}\n")
    compose("up", "-d")
    (tmp_path / "in").write_text("copied\n")
    compose("cp", str(tmp_path / "in"), "a:/there")
    compose("cp", "a:/there", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "copied\n"


def test_attached_lines_have_names_and_ctrl_c_stops_all(compose: Compose) -> None:
    compose.write(
        """
services:
  talker: {image: busybox, command: [sh, -c, "echo one; echo two; exec sleep 1000"],
    stop_signal: KILL}
  quiet: {image: busybox, command: sleep 1000, stop_signal: KILL}
"""
    )
    running = compose.begin("up")
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline() == "talker-1  | one\n"
    assert running.stdout.readline() == "talker-1  | two\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Gracefully stopping" in errors
    assert {one["State"] for one in compose.ps().values()} == {"exited"}


def test_what_is_started_again_is_followed_on(compose: Compose) -> None:
    compose.write(
        "services: {a: {image: busybox, command: [sh, -c, 'echo x; exit 4'],"
        " restart: 'on-failure:2'}}\n"
    )
    done = compose("up")
    assert done.stdout == "a-1  | x\n" * 3 + "a-1 exited with code 4\n"


def test_the_first_end_can_end_all(compose: Compose) -> None:
    compose.write(
        """
services:
  ends: {image: busybox, command: [sh, -c, "sleep 0.3; exit 7"]}
  stays: {image: busybox, command: sleep 1000, stop_signal: KILL}
"""
    )
    done = compose("up", "--abort-on-container-exit", code=7)
    assert "ends-1 exited with code 7" in done.stdout
    done = compose("up", "--exit-code-from", "ends", code=7)
    assert {one["State"] for one in compose.ps().values()} == {"exited"}


def test_a_dependency_that_fails_is_told(compose: Compose) -> None:
    compose.write(
        """
services:
  a: {image: busybox, depends_on: {b: {condition: service_completed_successfully}}}
  b: {image: busybox, command: "false"}
"""
    )
    done = compose("up", "-d", code=1)
    assert "container 'shop-b-1': did not complete: exited with 1" in done.stderr
    assert compose.ps()["shop-a-1"]["State"] == "created"
    compose.write("services: {a: {image: nowhere.invalid/none, pull_policy: never}}\n")
    assert "service 'a': image 'nowhere.invalid/none': not found" in compose("up", code=1).stderr
    compose.write("services:\n  a:\n    image: busybox\n    prots: [80]\n")
    told = compose("up", code=1).stderr
    assert f"{compose.place}/compose.yaml:4: services.a.prots: unknown key" in told
    compose.write("services: {a: {image: busybox}}\n")


@pytest.mark.parametrize("pause", [0.35, 0.5, 0.7])
def test_an_up_and_a_down_that_were_killed_can_be_repeated(compose: Compose, pause: float) -> None:
    compose.write(SHOP)
    for first, again in (("up -d", "up -d"), ("down -v -t 0", "down -v -t 0")):
        running = compose.begin(*first.split())
        try:
            running.wait(pause)
        except subprocess.TimeoutExpired:
            running.kill()
        running.communicate()
        compose(*again.split())
        states = {name: one["State"] for name, one in compose.ps().items()}
        if first.startswith("up"):
            assert states["shop-web-1"] == states["shop-db-1"] == "running"
        else:
            assert leftovers(compose.daemon) == []


def test_two_ups_at_once_and_two_projects_do_not_hurt_each_other(compose: Compose) -> None:
    compose.write(SHOP)
    running = [
        compose.begin(*arguments)
        for arguments in (("up", "-d"), ("up", "-d"), ("-p", "other", "up", "-d"))
    ]
    for one in running:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    assert sorted(compose.ps()) == ["shop-db-1", "shop-init-1", "shop-web-1"]
    asked = ("-p", "other", "exec", "web", "wget", "-qO-", "db:8080/index")
    assert compose(*asked).stdout == "data\n"
    compose("-p", "other", "down", "-v", "-t", "0")
    assert len(compose.ps()) == 3


CLASSIC = """
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /www
    stop_signal: KILL
    environment: {DATABASE: db}
    configs: [{source: page, target: /www/cgi-bin/notes, mode: 0555}]
    depends_on: {db: {condition: service_healthy}}
    networks: [default, back]
  db:
    image: busybox
    command: nc -ll -p 5432 -e /usr/local/database
    stop_signal: KILL
    configs: [{source: database, target: /usr/local/database, mode: 0555}]
    volumes: ["rows:/var/lib/database"]
    healthcheck: {test: "echo GET | nc -w 1 localhost 5432", interval: 100ms, retries: 50}
    networks: [back]
networks: {back: {internal: true}}
volumes: {rows: }
configs:
  page:
    content: |
      #!/bin/sh
      echo "Content-Type: text/plain"
      echo
      if [ "$$REQUEST_METHOD" = POST ]; then read -r row || true; set -- "PUT $$row"; fi
      echo "$${1:-GET}" | nc $$DATABASE 5432
  database:
    content: |
      #!/bin/sh
      read -r verb row
      [ "$$verb" != PUT ] || echo "$$row" >> /var/lib/database/rows
      cat /var/lib/database/rows 2>/dev/null || true
"""


def served(compose: Compose, url: str) -> None:
    """Wait until somebody listens there, as web sees it."""
    asked = ("exec", "-T", "web", "wget", "-qO-", f"{url}cgi-bin/notes")
    command = compose.command(*asked)
    options = {"cwd": compose.place, "env": compose.environ, "stdin": subprocess.DEVNULL}
    eventually(lambda: subprocess.run(command, **options).returncode == 0)  # type: ignore[call-overload]


def test_the_classic_pair_keeps_its_data(compose: Compose) -> None:
    """A web application writes into a database; after stop, up, down and up it is there."""
    compose.write(CLASSIC)
    notes = ("exec", "-T", "web", "wget", "-qO-", "http://web/cgi-bin/notes")
    compose("up", "-d")
    served(compose, "http://web/")
    compose(*notes, "--post-data=first")
    assert compose(*notes).stdout == "first\n"
    compose("stop")
    compose("up", "-d")
    served(compose, "http://web/")
    assert compose(*notes).stdout == "first\n"
    compose(*notes, "--post-data=second")
    compose("down")
    compose("up", "-d", "--wait")
    served(compose, "http://web/")
    assert compose(*notes).stdout == "first\nsecond\n"


PREPARED = """
services:
  web:
    image: busybox
    entrypoint: [sh, -c]
    command: ["cat /data/made; exec sleep 1000"]
    stop_signal: KILL
    scale: 2
    volumes: ["data:/data", /scratch]
    pre_start:
      - {command: ["echo made by $${BY} >> /data/made"], environment: {BY: one}}
      - {image: busybox, command: touch /scratch/mine, per_replica: true}
      - {command: ["test ! -e /data/broken || { echo it is broken; exit 3; }"]}
volumes: {data: }
"""


def test_what_is_to_run_first_has_run(compose: Compose) -> None:
    compose.write(PREPARED.replace("echo made", "echo preparing; echo made"))
    assert "shop-web-1-pre-start-1  | preparing\n" in compose("up", "-d").stderr
    logs = ("logs", "--no-log-prefix", "web")
    eventually(lambda: compose(*logs).stdout.splitlines() == ["made by one", "made by one"])
    for number in ("1", "2"):
        compose("exec", "-T", "--index", number, "web", "ls", "/scratch/mine")
    compose("stop")
    compose("up", "-d")
    assert len(compose("exec", "-T", "web", "cat", "/data/made").stdout.splitlines()) == 1
    compose("exec", "-T", "web", "touch", "/data/broken")
    failed = compose("up", "-d", "--force-recreate", code=1)
    assert "shop-web-1-pre-start-3': exited with 3" in failed.stderr
    assert "it is broken" in failed.stderr
    assert sorted(compose.ps()) == ["shop-web-1", "shop-web-2"]
    compose("run", "--rm", "-T", "--entrypoint", "rm", "web", "/data/broken")
    compose("start")
    assert len(compose("exec", "-T", "web", "cat", "/data/made").stdout.splitlines()) == 3


def test_containers_of_others_are_found_by_what_they_are_called_here(
    compose: Compose, daemon: Daemon
) -> None:
    text = """
services:
  a: {image: busybox, command: sleep 1000, stop_signal: KILL, external_links: ["outer:db"]}
networks: {default: {name: bridge, external: true}}
"""
    compose.write(text)
    with pytest.raises(AssertionError, match="'outer': not found"):
        compose("up", "-d")
    daemon.corectl("run", "-d", "--name", "outer", "busybox", "sleep", "1000", check=True)
    try:
        compose("up", "-d")
        assert compose("exec", "-T", "a", "ping", "-c", "1", "db").returncode == 0
        assert "Container shop-a-1  Running\n" in compose("up", "-d").stderr
    finally:
        daemon.corectl("rm", "-f", "outer", check=True)


def test_what_is_made_again_keeps_its_anonymous_volumes(compose: Compose) -> None:
    text = "services: {a: {image: busybox, command: sleep 1000, stop_signal: KILL, volumes: [/v]}}"
    compose.write(text)
    compose("up", "-d")
    compose("exec", "-T", "a", "touch", "/v/kept")
    compose.write(text.replace("1000", "1001"))
    compose("up", "-d")
    compose("exec", "-T", "a", "ls", "/v/kept")
    compose("up", "-d", "--force-recreate", "--renew-anon-volumes")
    compose("exec", "-T", "a", "ls", "/v/kept", code=1)


def test_images_are_built_when_they_are_missing_or_that_is_asked_for(compose: Compose) -> None:
    compose.write(
        """
services:
  a:
    build:
      context: .
      args: {WORD: "${WORD:-one}"}
      dockerfile_inline: |
        FROM busybox
        ARG WORD
        RUN echo $$WORD > /word
        CMD ["sleep", "1000"]
    stop_signal: KILL
  b:
    build:
      context: .
      additional_contexts: {base: "service:a"}
      dockerfile_inline: |
        FROM base
        RUN cp /word /copied
    command: sleep 1000
    stop_signal: KILL
"""
    )
    compose("up", "-d")
    assert compose("exec", "b", "cat", "/copied").stdout == "one\n"
    before = compose.ids()
    compose("up", "-d")
    assert compose.ids() == before
    compose.environ["WORD"] = "two"
    compose("build", "-q")
    compose("up", "-d")
    assert compose("exec", "b", "cat", "/copied").stdout == "two\n"
    compose("down", "--rmi", "local", "-t", "0")
    images = compose.daemon.corectl("images", "--format", "{{.Repository}}").stdout.decode()
    assert "shop-" not in images
    compose.daemon.corectl("builder", "prune", "-f")
