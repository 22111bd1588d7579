"""Plans: which steps, in which order; and how they are carried out."""

from __future__ import annotations

import io
import json
import re
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from corectl.compose import labels, steps
from corectl.compose.existing import Existing, Replica, replica
from corectl.compose.files import Request
from corectl.compose.live import LiveReport
from corectl.compose.locking import locked
from corectl.compose.materials import Store, materials
from corectl.compose.planning import UpOptions, plan_up
from corectl.compose.project import Project, load
from corectl.compose.removal import DownOptions, plan_down, plan_stop
from corectl.compose.running import Cancelled, Lines, run
from rich.console import Console

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import CoredError, NotFound

DIGESTS = {"b": "sha256:1"}


def project(place: Path, text: str) -> Project:
    (place / "compose.yaml").write_text(text)
    return load(Request(environ={}, here=place, name="app"))


def told(plan: steps.Plan) -> list[str]:
    """The steps, but for those that only say that all is well."""
    return [f"{s.action.doing} {s.action.name}" for s in plan.steps if s.action.doing]


@dataclass
class World:
    """A daemon's containers and networks, as far as plans change them."""

    place: Path
    containers: dict[str, pb.Container] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    @property
    def existing(self) -> Existing:
        found = tuple(replica(record) for record in self.containers.values())
        return Existing(found, dict(self.networks), tuple(self.volumes))

    def plan(self, text: str, digests: dict[str, str] = DIGESTS, **options: Any) -> steps.Plan:
        return plan_up(
            project(self.place, text),
            self.existing,
            digests,
            Store("key", "app", self.place / "run"),
            UpOptions(**options),
            networks=self.networks,
            volumes=self.volumes,
        )

    def up(self, text: str, digests: dict[str, str] = DIGESTS, **options: Any) -> list[str]:
        """Plan, do, and tell the steps."""
        made = self.plan(text, digests, **options)
        run(made, self, width=4, report=Lines(form="quiet"))
        return told(made)

    def __call__(self, action: steps.Action, cancelled: threading.Event) -> str:
        match action:
            case steps.CreateNetwork():
                self.networks[action.name] = action.request.labels[labels.HASH]
            case steps.RemoveNetwork():
                del self.networks[action.name]
            case steps.CreateVolume():
                self.volumes.add(action.name)
            case steps.CreateContainer():
                assert action.name not in self.containers
                for endpoint in action.config.endpoints:
                    assert endpoint.network in self.networks
                self.containers[action.name] = pb.Container(
                    id=action.name,
                    name=action.name,
                    image=action.config.image,
                    status="created",
                    labels=action.config.labels,
                    connections=[pb.Connection(network=e.network) for e in action.config.endpoints],
                )
            case steps.StartContainer():
                self.containers[action.name].status = "running"
            case steps.StopContainer():
                self.containers[action.name].status = "stopped"
            case steps.RemoveContainer():
                assert self.containers.pop(action.name).status != "running"
            case steps.Await():
                assert self.containers[action.name].status == "running"
        return ""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


TWO = """
services:
  web: {image: b, depends_on: [db]}
  db: {image: b, volumes: ['data:/d']}
volumes: {data: }
"""


def test_up_makes_networks_volumes_and_containers_in_order(world: World) -> None:
    assert sorted(world.up(TWO)) == [
        "Creating app-db-1",
        "Creating app-web-1",
        "Creating app_data",
        "Creating app_default",
        "Starting app-db-1",
        "Starting app-web-1",
    ]


def test_a_second_up_does_nothing(world: World) -> None:
    world.up(TWO)
    assert world.up(TWO) == []


def test_a_second_up_says_what_runs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.up(TWO)
    run(world.plan(TWO), world, width=1, report=Lines())
    assert sorted(capsys.readouterr().err.splitlines()) == [
        " Container app-db-1  Running",
        " Container app-web-1  Running",
    ]
    world.containers["app-db-1"].status = "stopped"
    run(world.plan(TWO, start=False), world, width=1, report=Lines())
    assert " Container app-db-1  Created\n" in capsys.readouterr().err


def test_only_what_changed_is_made_again(world: World) -> None:
    world.up(TWO)
    changed = TWO.replace("web: {", "web: {command: x, ")
    assert world.up(changed) == [
        "Stopping app-web-1",
        "Removing app-web-1",
        "Creating app-web-1",
        "Starting app-web-1",
    ]


def test_a_new_image_makes_containers_anew(world: World) -> None:
    world.up(TWO)
    assert len(world.up(TWO, {"b": "sha256:2"})) == 8


@pytest.mark.parametrize(("recreate", "count"), [("always", 8), ("never", 0)])
def test_what_is_made_again_can_be_said(world: World, recreate: str, count: int) -> None:
    world.up(TWO)
    changed = TWO if recreate == "always" else TWO.replace("image: b,", "image: b, tty: true,")
    assert len(world.up(changed, recreate=recreate)) == count


def test_what_has_ended_is_started(world: World) -> None:
    world.up(TWO)
    world.containers["app-db-1"].status = "stopped"
    assert world.up(TWO) == ["Starting app-db-1"]


def test_what_an_interrupted_up_left_is_gone_on_with(world: World) -> None:
    world.up(TWO)
    del world.containers["app-web-1"]
    world.containers["app-db-1"].status = "created"
    assert sorted(world.up(TWO)) == [
        "Creating app-web-1",
        "Starting app-db-1",
        "Starting app-web-1",
    ]


def test_scale_up_and_down(world: World) -> None:
    world.up(TWO, scale={"db": 3})
    assert sorted(world.containers) == ["app-db-1", "app-db-2", "app-db-3", "app-web-1"]
    assert sorted(world.up(TWO, scale={"db": 1})) == [
        "Removing app-db-2",
        "Removing app-db-3",
        "Stopping app-db-2",
        "Stopping app-db-3",
    ]


def test_orphans_stay_unless_they_are_to_go(world: World) -> None:
    world.up(TWO)
    less = TWO.replace("  web: {image: b, depends_on: [db]}\n", "")
    assert world.up(less) == []
    assert world.up(less, remove_orphans=True) == ["Stopping app-web-1", "Removing app-web-1"]


def test_a_network_that_changed_is_made_again_with_all_in_it(world: World) -> None:
    world.up(TWO)
    changed = TWO + "networks: {default: {internal: true}}\n"
    found = world.up(changed)
    assert found.index("Removing app_default") > found.index("Removing app-db-1")
    assert "Creating app-web-1" in found
    assert world.up(changed) == []


def test_conditions_are_waited_for(tmp_path: Path, world: World) -> None:
    text = """
services:
  a: {image: b, depends_on: {h: {condition: service_healthy},
    c: {condition: service_completed_successfully, required: false}}}
  d: {image: b, depends_on: {h: {condition: service_healthy}}}
  h: {image: b, scale: 2}
  c: {image: b}
"""
    plan = plan_up(
        project(tmp_path, text), Existing(), DIGESTS, Store("k", "app", tmp_path), UpOptions()
    )
    waits = {s.action.name: s.action for s in plan.steps if isinstance(s.action, steps.Await)}
    assert sorted(waits) == ["app-c-1", "app-h-1", "app-h-2"]
    assert not waits["app-c-1"].required
    start = next(s for s in plan.steps if told_one(s) == "Starting app-a-1")
    before = {told_one(plan.steps[n]) for n in start.after}
    assert before == {"Creating app-a-1", *(f"Waiting {name}" for name in waits)}


def told_one(step: steps.Step) -> str:
    return f"{step.action.doing} {step.action.name}"


def test_who_shares_a_namespace_goes_with_its_owner(world: World) -> None:
    text = "services:\n  a: {image: b}\n  s: {image: b, network_mode: 'service:a'}\n"
    world.up(text)
    found = world.up(text.replace("a: {image: b}", "a: {image: b, tty: true}"))
    assert found.index("Starting app-a-1") < found.index("Creating app-s-1")


FIRST = """
services:
  web:
    image: b
    scale: 2
    depends_on: {db: {condition: service_healthy}}
    ports: ["80"]
    pre_start:
      - {command: migrate, environment: {A: "1"}}
      - {image: other, per_replica: true}
  db: {image: b, healthcheck: {test: x}}
"""


def test_what_is_to_run_first_runs_before_its_service(world: World) -> None:
    made = world.plan(FIRST)
    by_name = {(type(step.action), step.action.name): step for step in made.steps}
    migrate = by_name[steps.RunFirst, "app-web-1-pre-start-1"]
    assert migrate.action.config.args == ["migrate"]
    assert migrate.action.config.env == ["A=1"]
    assert not migrate.action.config.ports
    healthy = by_name[steps.Await, "app-db-1"].number
    assert {healthy, by_name[steps.CreateContainer, "app-web-1"].number} <= migrate.after
    for number in (1, 2):
        own = by_name[steps.RunFirst, f"app-web-{number}-pre-start-2"]
        assert own.action.config.image == "other"
        assert own.action.config.volumes_from == [f"app-web-{number}"]
        assert migrate.number in own.after
        assert own.number in by_name[steps.StartContainer, f"app-web-{number}"].after
    assert (steps.RunFirst, "app-web-2-pre-start-1") not in by_name


def test_what_ran_first_runs_again_only_where_a_container_never_ran(world: World) -> None:
    def first() -> list[str]:
        made = world.plan(text)
        return [step.action.name for step in made.steps if isinstance(step.action, steps.RunFirst)]

    text = FIRST
    world.up(text)
    assert first() == []
    world.containers["app-web-2"].status = "stopped"
    assert first() == []
    world.containers["app-web-2"].status = "created"
    assert first() == ["app-web-2-pre-start-2"]
    text = text.replace("scale: 2", "scale: 3").replace("migrate", "move")
    again = ["app-web-1-pre-start-1", *(f"app-web-{n}-pre-start-2" for n in (1, 2, 3))]
    assert sorted(first()) == again


def test_the_containers_of_a_service_can_be_left_alone(world: World) -> None:
    world.up(TWO)
    world.containers["app-web-1"].status = "stopped"
    assert (
        world.up(TWO.replace("image: b, depends_on", "image: c, depends_on"), untouched="web") == []
    )


def test_restart_follows_what_is_made_again(world: World) -> None:
    text = (
        "services:\n  a: {image: b, depends_on: {d: {condition: service_started, restart: true}}}\n"
    )
    text += "  d: {image: b}\n"
    world.up(text)
    found = world.up(text.replace("d: {image: b}", "d: {image: b, tty: true}"))
    assert found[-2:] == ["Stopping app-a-1", "Starting app-a-1"]


@pytest.mark.parametrize("kind", ["network", "volume"])
def test_what_is_external_has_to_be_there(world: World, kind: str) -> None:
    used = "networks: [x]" if kind == "network" else "volumes: ['x:/x']"
    text = f"services: {{a: {{image: b, {used}}}}}\n{kind}s: {{x: {{external: true}}}}\n"
    with pytest.raises(NotFound, match=f"{kind} 'x': not found .make it with: corectl {kind}"):
        world.up(text)
    if kind == "network":
        assert world.plan(text.replace("true", "true, name: bridge")).steps


def test_files_of_configs_and_secrets(tmp_path: Path) -> None:
    text = """
services: {a: {image: b, configs: [{source: c, target: /etc/c, mode: 0400}], secrets: [s]}}
configs: {c: {content: hello}}
secrets: {s: {file: ./secret}}
"""
    (tmp_path / "secret").write_text("s")
    place = Store("k", "app", tmp_path / "run" / "compose")
    plan = plan_up(project(tmp_path, text), Existing(), DIGESTS, place, UpOptions())
    (made,) = [s.action for s in plan.steps if isinstance(s.action, steps.CreateContainer)]
    mounts = {mount.target: mount.source for mount in made.config.mounts}
    assert mounts["/run/secrets/s"] == f"{tmp_path}/secret"
    assert mounts["/etc/c"].startswith(str(place.directory))


def test_external_configs_and_secrets_are_files_of_the_host(tmp_path: Path) -> None:
    text = """
services: {a: {image: b, configs: [c], secrets: [s, {source: t, mode: 0400}]}}
configs: {c: {external: true, name: shared}}
secrets: {s: {external: true}, t: {external: true}}
"""
    place = Store("k", "app", tmp_path / "run", tmp_path / "etc")
    credentials = tmp_path / "credentials"
    for path in (tmp_path / "etc/configs/shared", tmp_path / "etc/secrets/t", credentials / "s"):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    (tmp_path / "compose.yaml").write_text(text)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    made = load(Request(environ=environ, here=tmp_path, name="app"))
    found = {file.target: (str(file.path), file.content) for file in materials(made, "a", place)}
    assert found["/c"] == (f"{tmp_path}/etc/configs/shared", None)
    assert found["/run/secrets/s"] == (f"{credentials}/s", None)
    path, content = found["/run/secrets/t"]
    assert path.startswith(str(place.directory)) and content == b"t"
    (credentials / "s").unlink()
    with pytest.raises(NotFound, match=r"secret 's': is external, .*put it in .*etc/secrets/s"):
        list(materials(made, "a", place))


def test_a_message_says_what_a_service_says(tmp_path: Path) -> None:
    text = """
services:
  a:
    image: b
    entrypoint: sh -c
    command: [x]
    environment: {A: "1"}
    cpus: 0.5
    mem_limit: 1m
    deploy: {resources: {limits: {memory: 2m}}}
    ports: ["8080:80"]
    networks: {n: {aliases: [other], ipv4_address: 10.0.0.5, priority: 5}, default: }
    extra_hosts: {h: 1.2.3.4}
    ulimits: {nofile: 5}
    tmpfs: ["/t:size=1m"]
    restart: on-failure:2
    healthcheck: {test: x, interval: 2s}
    stop_grace_period: 1500ms
    links: ["c:see"]
    external_links: ["redis", "shop-db-1:db"]
  c: {image: b, networks: [n]}
networks: {n: }
"""
    plan = plan_up(project(tmp_path, text), Existing(), DIGESTS, Store("k", "app"), UpOptions())
    found = {
        s.action.name: s.action.config
        for s in plan.steps
        if isinstance(s.action, steps.CreateContainer)
    }
    a = found["app-a-1"]
    assert (list(a.entrypoint.args), list(a.args), list(a.env)) == (["sh", "-c"], ["x"], ["A=1"])
    assert (a.resources.nano_cpus, a.resources.memory_limit) == (500_000_000, 2 << 20)
    assert a.network == "app_n"
    assert [(e.network, list(e.aliases), e.ip) for e in a.endpoints] == [
        ("app_n", ["a", "other"], "10.0.0.5"),
        ("app_default", ["a"], ""),
    ]
    assert (a.restart.name, a.restart.maximum, a.stop_timeout) == ("on-failure", 2, 2)
    assert (list(a.health.test), a.health.interval) == (["CMD-SHELL", "x"], 2 * 10**9)
    assert a.labels[labels.SERVICE] == "a"
    assert list(a.links) == ["redis", "shop-db-1:db"]
    assert list(found["app-c-1"].endpoints[0].aliases) == ["c", "see"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("restart: sometimes", "not a policy"),
        ("healthcheck: {test: [x]}", "begins with 'x'"),
        ("volumes: [{type: npipe, source: a, target: /a}]", "type npipe"),
        ("secrets: [s]", "not found"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_done(
    world: World, body: str, words: str
) -> None:
    text = f"services: {{a: {{image: b, {body}}}}}\nsecrets: {{s: {{file: ./gone}}}}\n"
    with pytest.raises(CoredError, match=words):
        world.up(text)
    assert not world.containers
    assert not world.networks


def container(name: str, *needs: str, status: str = "running") -> Replica:
    marks = {labels.SERVICE: name, labels.DEPENDS: ",".join(f"{n}:service_started" for n in needs)}
    return replica(pb.Container(id=name, name=name, status=status, labels=marks))


def test_limits_of_devices_and_of_real_time_are_passed_on(world: World) -> None:
    text = """
services:
  a:
    image: b
    cpu_rt_period: 400ms
    cpu_rt_runtime: 9000us
    blkio_config: {weight_device: [{path: /dev/sda, weight: 400}]}
"""
    (made,) = [
        s.action for s in world.plan(text).steps if isinstance(s.action, steps.CreateContainer)
    ]
    found = made.config.resources
    assert (found.cpu_rt_period, found.cpu_rt_runtime) == (400_000, 9_000)
    assert [(t.kind, t.path, t.rate) for t in found.throttles] == [("weight", "/dev/sda", 400)]


def test_dependents_stop_first() -> None:
    plan = plan_stop([container("db"), container("web", "db"), container("proxy", "web")], 3)
    assert told(plan) == ["Stopping proxy", "Stopping web", "Stopping db"]
    assert [sorted(s.after) for s in plan.steps] == [[], [0], [1]]


def test_a_circle_of_labels_stops_all_the_same() -> None:
    plan = plan_stop([container("a", "b"), container("b", "a")], None)
    assert sorted(told(plan)) == ["Stopping a", "Stopping b"]


def test_down_removes_networks_volumes_and_images_last() -> None:
    replicas = [container("db"), container("web", "db", status="stopped")]
    options = DownOptions(volumes=["v"], images=["i"])
    plan = plan_down(replicas, Existing(networks={"n": ""}), options, everything=True)
    assert told(plan) == [
        "Stopping db",
        "Removing db",
        "Removing web",
        "Removing n",
        "Removing v",
        "Removing i",
    ]
    removals = {s.number for s in plan.steps if isinstance(s.action, steps.RemoveContainer)}
    assert all(s.after == removals for s in plan.steps[-3:])


def chain(*edges: tuple[str, set[int]]) -> steps.Plan:
    plan = steps.Plan()
    for name, after in edges:
        plan.add(steps.Kill(name), after)
    return plan


def test_steps_run_together_as_far_as_their_order_allows() -> None:
    meeting = threading.Barrier(2, timeout=60)
    done: list[str] = []

    def perform(action: steps.Action, cancelled: threading.Event) -> str:
        if action.name in ("left", "right"):
            meeting.wait()
        done.append(action.name)
        return ""

    plan = chain(("first", set()), ("left", {0}), ("right", {0}), ("last", {1, 2}))
    run(plan, perform, width=2, report=Lines(form="quiet"))
    assert (done[0], done[-1], len(done)) == ("first", "last", 4)


def test_after_a_failure_nothing_begins_and_waits_end() -> None:
    done: list[str] = []

    def perform(action: steps.Action, cancelled: threading.Event) -> str:
        if action.name == "waits":
            assert cancelled.wait(60)
            raise Cancelled
        if action.name == "fails":
            raise NotFound("gone")
        done.append(action.name)
        return ""

    plan = chain(("waits", set()), ("fails", set()), ("after", {1}))
    with pytest.raises(NotFound, match="gone"):
        run(plan, perform, width=4, report=Lines(form="quiet"))
    assert done == []


def test_steps_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    plan = chain(("x", set()))
    run(plan, lambda action, cancelled: "", width=1, report=Lines(dry=True))
    assert capsys.readouterr().err == (
        "DRY-RUN MODE -  Container x  Killing\nDRY-RUN MODE -  Container x  Killed\n"
    )


def test_steps_are_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    run(chain(("x", set())), lambda action, cancelled: "", width=1, report=Lines(form="json"))
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [
        {"id": "Container x", "status": "Killing"},
        {"id": "Container x", "status": "Killed"},
    ]


def test_what_steps_write_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("plain", "json", "quiet"):
        Lines(form=form).hear(steps.Kill("x"), "a [word]")
    shown = ["x  | a [word]", '{"id": "Container x", "text": "a [word]"}']
    assert capsys.readouterr().err.splitlines() == shown
    lines: list[str] = []
    LiveReport(above=lines.append).hear(steps.Kill("x"), "a [word]")
    assert lines == shown[:1]


def test_steps_are_shown_as_they_go_on() -> None:
    report = LiveReport()
    first, second = steps.Kill("x"), steps.Kill("y")
    report.say(first, "Killing")
    report.say(second, "Killing")
    report.say(first, "Killed")
    console = Console(width=60, file=io.StringIO())
    with console.capture() as shown:
        console.print(report.picture())
    one, two = shown.get().splitlines()
    assert re.fullmatch(r"✔ Container x +Killed +0\.\ds", one.rstrip())
    assert re.search(r"Container y +Killing +0\.\ds", two)
    assert not two.startswith("✔")


def test_a_project_is_changed_by_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    inside = 0
    most = 0
    guard = threading.Lock()

    def change() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked("address", "namespace", "app"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_own_files_have_owner_and_mode_and_go(tmp_path: Path) -> None:
    from corectl.compose.materials import Material

    place = Store("k", "app", tmp_path / "corectl" / "compose")
    material = Material(place.directory / "x", "/x", b"hello", mode=0o440)
    place.write(replace(material, owner=(tmp_path.stat().st_uid, tmp_path.stat().st_gid)))
    assert material.path.read_bytes() == b"hello"
    assert material.path.stat().st_mode & 0o777 == 0o440
    assert place.directory.stat().st_mode & 0o777 == 0o700
    place.remove()
    assert list((tmp_path / "corectl").iterdir()) == []
