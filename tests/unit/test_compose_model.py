"""Compose files to the model: variables, long forms, merging, extends, include, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from corectl.compose import dotenv, printing
from corectl.compose.files import Request
from corectl.compose.interpolation import Missing, substitute
from corectl.compose.project import Project, load, raw
from corectl.compose.reading import scalar

from cored.errors import CoredError, InvalidArgument


def project(place: Path, *texts: str, **request: Any) -> Project:
    """The project of some files in ``place``, the later over the earlier."""
    files = []
    for number, text in enumerate(texts):
        file = place / f"compose.{number}.yaml"
        file.write_text(text)
        files.append(str(file))
    environ = request.pop("environ", {})
    return load(Request(files=files, environ=environ, here=place, name="app", **request))


def one(place: Path, body: str, **request: Any) -> dict[str, Any]:
    """The long form of service a, whose keys ``body`` has, as YAML in braces or in lines."""
    text = f"services:\n  a:\n    image: busybox\n{indented(body, 4)}"
    found = printing.document(project(place, text, **request).tree, escape=False)
    service: dict[str, Any] = found["services"]["a"]
    return service


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


VARIABLES = {"x": "1", "empty": "", "n": "x"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$x", "1"),
        ("${x}", "1"),
        ("a${x}b$x.", "a1b1."),
        ("${empty:-w}", "w"),
        ("${empty-w}", ""),
        ("${none:-w}", "w"),
        ("${none-w}", "w"),
        ("${none}", ""),
        ("${x:+w}", "w"),
        ("${x+w}", "w"),
        ("${empty:+w}", ""),
        ("${empty+w}", "w"),
        ("${none+w}", ""),
        ("${x:?must}", "1"),
        ("${empty?must}", ""),
        ("${none:-${empty:-${x}}}", "1"),
        ("${none:-a$x-${n}}", "a1-x"),
        ("${x:-${none:?never asked}}", "1"),
        ("$$x $${x}", "$x ${x}"),
        ("${none:-}", ""),
        ("plain", "plain"),
        ("${none:-http://h:80/?q=1}", "http://h:80/?q=1"),
    ],
)
def test_every_form_of_a_variable(text: str, result: str) -> None:
    assert substitute(text, VARIABLES.get) == result


@pytest.mark.parametrize("text", ["${none:?why}", "${none?why}", "${empty:?why}"])
def test_a_variable_that_must_be_set(text: str) -> None:
    with pytest.raises(Missing, match="why"):
        substitute(text, VARIABLES.get)


@pytest.mark.parametrize("text", ["$", "${", "${}", "${x", "$1", "${x:w}", "${x:-${x}", "${x!}"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        substitute(text, VARIABLES.get)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("null", None),
        ("~", None),
        ("true", True),
        ("yes", "yes"),
        ("on", "on"),
        ("12", 12),
        ("-3", -3),
        ("0440", 0o440),
        ("0o17", 15),
        ("0x1F", 31),
        ("089", "089"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("22:22", "22:22"),
        ("1.2.3", "1.2.3"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


ENV = """
# a comment
A=1
export B = two words   # and a comment
C='single $A'
D="double ${A}\\n\\$A"
E=a#b
F=
G: yaml
H="many
lines"
FROM
NOWHERE
I=${A}-${FROM}
"""


def test_files_of_variables() -> None:
    found = dotenv.parse(ENV, ".env", {"FROM": "outside"}.get)
    assert found == {
        "A": "1",
        "B": "two words",
        "C": "single $A",
        "D": "double 1\n$A",
        "E": "a#b",
        "F": "",
        "G": "yaml",
        "H": "many\nlines",
        "FROM": "outside",
        "I": "1-outside",
    }


@pytest.mark.parametrize(
    "text", ["A=1\n=2", "A=1\nB='open", "A=1\nB=${", "A=1\n%%", 'A=1\nB="x" y']
)
def test_a_file_of_variables_that_is_wrong_names_the_line(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\.env:2: "):
        dotenv.parse(text, ".env", {}.get)


@pytest.mark.parametrize(
    ("body", "key", "value"),
    [
        ("command: sh -c 'a b'", "command", ["sh", "-c", "a b"]),
        ("command: [a, b]", "command", ["a", "b"]),
        ("entrypoint: ''", "entrypoint", []),
        ("environment: [A=1, B=, C]", "environment", {"A": "1", "B": "", "C": "ours"}),
        ("environment: {A: 1, C: , NONE: }", "environment", {"A": 1, "C": "ours"}),
        ("labels: [a=b, c]", "labels", {"a": "b", "c": ""}),
        ("dns: 1.1.1.1", "dns", ["1.1.1.1"]),
        ("tmpfs: /run", "tmpfs", ["/run"]),
        ("expose: [80, '90/udp']", "expose", ["80", "90/udp"]),
        ("extra_hosts: ['a:1.2.3.4', b=::1]", "extra_hosts", ["a=1.2.3.4", "b=::1"]),
        ("extra_hosts: {a: 1.2.3.4}", "extra_hosts", ["a=1.2.3.4"]),
        ("sysctls: [net.core.somaxconn=1]", "sysctls", {"net.core.somaxconn": "1"}),
        (
            "ports: [80]",
            "ports",
            [{"mode": "ingress", "protocol": "tcp", "target": 80}],
        ),
        (
            "ports: ['[::1]:8080:80/udp']",
            "ports",
            [
                {
                    "host_ip": "::1",
                    "mode": "ingress",
                    "protocol": "udp",
                    "published": "8080",
                    "target": 80,
                }
            ],
        ),
        (
            "ports: [{target: 80, published: 8080}]",
            "ports",
            [{"mode": "ingress", "protocol": "tcp", "published": "8080", "target": 80}],
        ),
        (
            "ports: ['9000-9010:80']",
            "ports",
            [{"mode": "ingress", "protocol": "tcp", "published": "9000-9010", "target": 80}],
        ),
        (
            "devices: [/dev/fuse, '/dev/a:/dev/b:r']",
            "devices",
            [
                {"permissions": "rwm", "source": "/dev/fuse", "target": "/dev/fuse"},
                {"permissions": "r", "source": "/dev/a", "target": "/dev/b"},
            ],
        ),
        ("healthcheck: {test: curl x}", "healthcheck", {"test": ["CMD-SHELL", "curl x"]}),
        ("gpus: all", "gpus", [{"count": -1}]),
        ("build: {context: ., args: [A=1]}", "build", {"args": {"A": "1"}, "context": "HERE"}),
        ("build: https://x/y.git", "build", {"context": "https://x/y.git"}),
        (
            "volumes: ['./d:/d:ro,z']",
            "volumes",
            [
                {
                    "bind": {"create_host_path": True, "selinux": "z"},
                    "read_only": True,
                    "source": "HERE/d",
                    "target": "/d",
                    "type": "bind",
                }
            ],
        ),
        ("volumes: [/anonymous]", "volumes", [{"target": "/anonymous", "type": "volume"}]),
        ("post_start: [{command: a b}]", "post_start", [{"command": ["a", "b"]}]),
        ("ulimits: {nofile: 3, core: {soft: 1, hard: -1}}", "ulimits",
         {"core": {"hard": -1, "soft": 1}, "nofile": 3}),
    ],
)  # fmt: skip
def test_short_forms_become_long(tmp_path: Path, body: str, key: str, value: object) -> None:
    found = one(tmp_path, body, environ={"C": "ours"})[key]
    expected = repr(value).replace("HERE", str(tmp_path))
    assert repr(found) == expected


FULL = """
name: app
services:
  a:
    image: busybox
    annotations: {a: b}
    attach: false
    blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}],
      device_read_bps: [{path: /dev/sda, rate: 12mb}]}
    cap_add: [ALL]
    cap_drop: [NET_ADMIN]
    cgroup: private
    cgroup_parent: /x
    configs: [c, {source: c, target: /c, uid: "1", gid: "2", mode: 0440}]
    cpu_count: 2
    cpu_percent: 50
    cpu_period: 10000
    cpu_quota: 5000
    cpu_rt_period: 400ms
    cpu_rt_runtime: 400ms
    cpu_shares: 73
    cpus: 1.5
    cpuset: 0-1
    credential_spec: {file: x.json}
    depends_on: {b: {condition: service_healthy, restart: true, required: false}}
    deploy:
      mode: replicated
      endpoint_mode: vip
      replicas: 2
      labels: {x: y}
      rollback_config: {parallelism: 1, order: stop-first}
      update_config: {parallelism: 1, delay: 10s, failure_action: rollback, monitor: 1m,
        max_failure_ratio: 0.1}
      resources:
        limits: {cpus: "0.5", memory: 50M, pids: 10}
        reservations: {cpus: "0.25", memory: 20M, devices: [{capabilities: [gpu], count: 1}]}
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
      placement: {constraints: [x==y], preferences: [{spread: z}], max_replicas_per_node: 1}
    develop: {watch: [{path: ., action: sync, target: /x}]}
    device_cgroup_rules: ['c 1:3 mr']
    dns_opt: [use-vc]
    dns_search: example.com
    domainname: example.com
    external_links: [redis]
    group_add: [mail, 5]
    healthcheck: {test: [CMD, "true"], interval: 1m30s, timeout: 10s, retries: 3,
      start_period: 40s, start_interval: 5s, disable: false}
    hostname: h
    init: true
    ipc: host
    isolation: default
    links: [b]
    logging: {driver: json-file, options: {max-size: 10m}}
    mac_address: 02:42:ac:11:65:43
    mem_limit: 1g
    mem_reservation: 512m
    mem_swappiness: 60
    memswap_limit: 2g
    networks: {front: {aliases: [x], ipv4_address: 10.1.0.2, ipv6_address: 2001:db8::2,
      link_local_ips: [169.254.1.1], mac_address: 02:42:ac:11:65:44, priority: 1,
      gw_priority: 2, interface_name: eth1, driver_opts: {a: b}}}
    oom_kill_disable: true
    oom_score_adj: 100
    pid: host
    pids_limit: 10
    platform: linux/amd64
    post_start: [{command: a, user: root, privileged: true, working_dir: /, environment: [A=1]}]
    pre_start: [{command: a, image: i, per_replica: true}]
    pre_stop: [{command: [b]}]
    privileged: true
    profiles: [p]
    pull_policy: missing
    read_only: true
    restart: on-failure:3
    runtime: crun
    secrets: [s]
    security_opt: [no-new-privileges]
    shm_size: 64m
    stdin_open: true
    stop_grace_period: 1m30s
    stop_signal: SIGUSR1
    storage_opt: {size: 1G}
    tty: true
    use_api_socket: false
    user: 1000
    userns_mode: host
    uts: host
    volumes:
      - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
      - {type: volume, source: v, target: /v, volume: {nocopy: true, subpath: x}}
      - {type: bind, source: ., target: /b, bind: {propagation: rshared}, consistency: cached}
      - {type: image, source: busybox, target: /i, image: {subpath: bin}}
    volumes_from: [b:ro]
    working_dir: /w
  b: {image: busybox, healthcheck: {disable: true}}
networks:
  front: {driver: bridge, driver_opts: {a: b}, attachable: true, enable_ipv6: true,
    enable_ipv4: true, internal: true, labels: [x], name: n,
    ipam: {driver: default, config: [{subnet: 10.1.0.0/16, ip_range: 10.1.1.0/24,
      gateway: 10.1.0.1, aux_addresses: {h: 10.1.0.9}}], options: {x: y}}}
  out: {external: true}
volumes:
  v: {driver: local, driver_opts: {type: none}, labels: {a: b}, name: w}
  outer: {external: {name: other}}
secrets:
  s: {environment: S, labels: {a: b}}
  t: {file: ./t}
configs:
  c: {content: "hello ${X}"}
  d: {external: true}
x-more: {anything: [1]}
"""


def test_every_key_is_understood(tmp_path: Path) -> None:
    found = project(tmp_path, FULL, environ={"X": "x"}, profiles=["p"])
    a = found.services["a"]
    assert a.healthcheck is not None
    assert (a.healthcheck.interval, a.stop_grace_period) == (90 * 10**9, 90 * 10**9)
    assert (a.mem_limit, a.shm_size, a.cpus, a.replicas) == (1 << 30, 64 << 20, 1.5, 2)
    assert (a.configs[1].mode, a.volumes[0].tmpfs.mode) == (0o440, 0o700)
    assert (a.user, a.group_add, a.cpu_rt_period) == ("1000", ("mail", "5"), "400ms")
    assert a.deploy is not None
    assert a.deploy.resources.limits.memory == 50 << 20
    assert found.networks["out"].name == "out"
    assert found.volumes["outer"].name == "other"
    assert found.configs["c"].content == "hello x"
    assert found.secrets["t"].file == str(tmp_path / "t")


@pytest.mark.parametrize(
    ("base", "over", "key", "value"),
    [
        ("environment: {A: 1, B: 2}", "environment: [B=3]", "environment", {"A": 1, "B": "3"}),
        ("command: a", "command: b c", "command", ["b", "c"]),
        ("cap_add: [A, B]", "cap_add: [B, C]", "cap_add", ["A", "B", "C"]),
        ("dns: a", "dns: b", "dns", ["a", "b"]),
        ("expose: [1]", "expose: [1, 2]", "expose", ["1", "2"]),
        ("labels: [a=1]", "labels: !reset null", "labels", None),
        ("labels: [a=1]", "labels: !override {b: 2}", "labels", {"b": 2}),
        ("labels: [a=1, b=1]", "labels: {a: !reset null}", "labels", {"b": "1"}),
        ("cap_add: [A]", "cap_add: !override [B]", "cap_add", ["B"]),
        ("cap_add: [A]", "cap_add: ", "cap_add", ["A"]),
        ("mem_limit: 1g", "mem_limit: 2g", "mem_limit", "2g"),
        (
            "logging: {driver: json-file, options: {max-size: 1m}}",
            "logging: {driver: none}",
            "logging",
            {"driver": "none"},
        ),
        (
            "healthcheck: {test: a, retries: 3}",
            "healthcheck: {test: b}",
            "healthcheck",
            {"retries": 3, "test": ["CMD-SHELL", "b"]},
        ),
        (
            "tmpfs: /a",
            "tmpfs: [/b, /a]",
            "tmpfs",
            ["/a", "/b"],
        ),
    ],
)
def test_a_later_file_is_over_an_earlier(
    tmp_path: Path, base: str, over: str, key: str, value: object
) -> None:
    first = f"services:\n  a:\n    image: busybox\n    {base}\n"
    second = f"services:\n  a:\n    {over}\n"
    found = printing.document(project(tmp_path, first, second).tree)
    assert found["services"]["a"].get(key) == value


def test_mounts_and_ports_of_the_same_place_are_replaced(tmp_path: Path) -> None:
    first = "services:\n  a:\n    image: b\n    volumes: [./x:/d, ./y:/e]\n    ports: ['80:80']\n"
    second = "services:\n  a:\n    volumes: [./z:/d]\n    ports: ['80:80', '81:80']\n"
    found = project(tmp_path, first, second).services["a"]
    assert [(v.source, v.target) for v in found.volumes] == [
        (f"{tmp_path}/z", "/d"),
        (f"{tmp_path}/y", "/e"),
    ]
    assert [port.published for port in found.ports] == ["80", "81"]


def test_anchors_merge_keys_and_extensions(tmp_path: Path) -> None:
    text = """
x-env: &env {A: 1, B: 2}
x-more: &more {B: 3, C: 4}
services:
  a: &a
    image: busybox
    environment: {<<: [*env, *more], B: own}
    x-note: anything
  b:
    <<: *a
    command: b
"""
    found = project(tmp_path, text).services
    assert found["a"].environment == {"A": "1", "B": "own", "C": "4"}
    assert found["b"].command == ("b",)
    assert found["b"].image == "busybox"


def test_extends_from_the_same_and_another_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/base.yaml").write_text(
        "services:\n  root: {image: r, environment: {A: 1}, volumes: [./d:/d]}\n"
        "  base: {extends: root, environment: {B: 2}, cap_add: [X]}\n"
    )
    text = """
services:
  a: {extends: {file: sub/base.yaml, service: base}, environment: {B: 3}, cap_add: [Y]}
  b: {extends: a, image: other}
"""
    found = project(tmp_path, text).services
    assert found["a"].image == "r"
    assert found["a"].environment == {"A": "1", "B": "3"}
    assert found["a"].cap_add == ("X", "Y")
    assert found["a"].volumes[0].source == f"{tmp_path}/sub/d"
    assert (found["b"].image, found["b"].cap_add) == ("other", ("X", "Y"))


def test_an_include_has_variables_and_paths_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/.env").write_text("TAG=inner\nOUT=inner\n")
    (tmp_path / "sub/compose.yaml").write_text(
        "services:\n  inner: {image: 'i:${TAG}-${OUT}', volumes: [./d:/d]}\nvolumes: {data: }\n"
    )
    text = "include: [sub/compose.yaml]\nservices:\n  a: {image: b, depends_on: [inner]}\n"
    found = project(tmp_path, text, environ={"OUT": "outer"})
    assert found.services["inner"].image == "i:inner-outer"
    assert found.services["inner"].volumes[0].source == f"{tmp_path}/sub/d"
    assert found.volumes["data"].name == "app_data"


def test_env_files_are_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("A=1\nB=1\nC=$X\n")
    (tmp_path / "two").write_text("B=2\n")
    (tmp_path / "raw").write_text("D='$X'\n")
    body = """env_file: [one, {path: two}, {path: gone, required: false}, {path: raw, format: raw}]
environment: {A: 3}"""
    assert one(tmp_path, body, environ={"X": "x"})["environment"] == {
        "A": 3,
        "B": "2",
        "C": "x",
        "D": "'$X'",
    }


def test_variables_come_from_the_directory_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAG=file\nOTHER=file\n")
    text = "services:\n  a: {image: 'x:${TAG}-${OTHER}'}\n"
    found = project(tmp_path, text, environ={"TAG": "environment"})
    assert found.services["a"].image == "x:environment-file"
    assert project(tmp_path, "services: {a: {image: 'x:$NONE'}}").unset == ("NONE",)


PROFILES = """
services:
  always: {image: a}
  debug: {image: a, profiles: [debug]}
  test: {image: a, profiles: [test, all], depends_on: [always]}
"""


@pytest.mark.parametrize(
    ("profiles", "names"),
    [
        ([], ["always"]),
        (["debug"], ["always", "debug"]),
        (["all", "debug"], ["always", "debug", "test"]),
        (["*"], ["always", "debug", "test"]),
    ],
)
def test_profiles_choose_services(tmp_path: Path, profiles: list[str], names: list[str]) -> None:
    assert sorted(project(tmp_path, PROFILES, profiles=profiles).services) == names


def test_naming_a_service_makes_its_profile_active(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(PROFILES)
    found = load(Request(environ={}, here=tmp_path), naming=["debug"])
    assert sorted(found.chosen(["debug"]).services) == ["debug"]


@pytest.mark.parametrize(
    ("request_", "environ", "top", "name"),
    [
        ({}, {}, "", "mydir_1"),
        ({}, {}, "name: top\n", "top"),
        ({}, {"COMPOSE_PROJECT_NAME": "env"}, "name: top\n", "env"),
        ({"name": "flag"}, {"COMPOSE_PROJECT_NAME": "env"}, "name: top\n", "flag"),
        ({}, {"N": "x"}, "name: my-${N}\n", "my-x"),
    ],
)
def test_where_the_name_comes_from(
    tmp_path: Path, request_: dict[str, str], environ: dict[str, str], top: str, name: str
) -> None:
    place = tmp_path / "-My.Dir_1"
    (place / "below").mkdir(parents=True)
    (place / "compose.yml").write_text(f"{top}services: {{a: {{image: b}}}}\n")
    (place / "compose.override.yml").write_text("services: {a: {command: over}}\n")
    found = load(Request(environ=environ, here=place / "below", **request_))  # type: ignore[arg-type]
    assert found.name == name
    assert found.networks["default"].name == f"{name}_default"
    assert found.services["a"].command == ("over",)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("services:\n  a: {image: b\n", 3, "not YAML"),
        ("services:\n  a:\n    image: b\n    image: c\n", 4, "'image' is there twice"),
        ("services:\n  a:\n    image: b\n    enviroment: {}\n", 4, "did you mean 'environment'?"),
        ("services:\n  a:\n    image: [b]\n", 3, "services.a.image: must be a word"),
        ("services:\n  a:\n    image: 5\n", 3, "'5' is not a word"),
        ("services:\n  a:\n    image: b\n    ports:\n      - 80\n      - x\n", 6, "ports.1: 'x'"),
        ("services:\n  a:\n    image: b\n    mem_limit: lots\n", 4, "'lots' is not a size"),
        ("services:\n  a:\n    image: b\n    stop_grace_period: 5\n", 4, "not a duration"),
        ("services:\n  a:\n    image: b\n    tty: perhaps\n", 4, "neither true nor false"),
        ("services:\n  a:\n    image: b\n    depends_on: [c]\n", 4, "no service 'c'"),
        ("services:\n  a:\n    image: b\n    networks: [n]\n", 4, "'n' is not defined"),
        ("services:\n  a:\n    image: b\n    volumes: ['v:/v']\n", 4, "'v' is not defined"),
        ("services:\n  a:\n    image: b\n    secrets: [s]\n", 4, "'s' is not defined"),
        ("services:\n  a:\n    command: b\n", 2, "neither 'image' nor 'build'"),
        ("services:\n  a:\n    image: b\n    models: [m]\n", 4, "does not have them"),
        ("services:\n  a:\n    image: b\n    provider: {type: x}\n", 4, "does not have them"),
        ("services:\n  a:\n    image: ${X:?set me}\n", 3, "variable X is not set: set me"),
        ("services:\n  a:\n    image: ${X\n", 3, "services.a.image"),
        ("services:\n  a: b\n", 2, "services.a: must be a mapping"),
        ("services:\n  a:\n    image: b\n    command: \"'\"\n", 4, "no closing quotation"),
        ("services:\n  a:\n    image: b\n    container_name: x\n    scale: 2\n", 4,
         "more than one"),
        ("services:\n  a:\n    image: b\n    network_mode: host\n    networks: [default]\n", 4,
         "excludes 'networks'"),
        ("services:\n  a:\n    image: b\n    deploy: {mode: odd}\n", 4, "not one of replicated"),
        ("services:\n  a:\n    image: b\n    extends: c\n", 4, "no service 'c'"),
        ("services:\n  a: {image: b, extends: c}\n  c: {extends: a}\n", 3, "extends itself"),
        ("include: [gone.yaml]\nservices: {a: {image: b}}\n", 1, "gone.yaml: not found"),
        ("services: {a: {image: b}}\nsecrets:\n  s: {file: x, environment: y}\n", 3, "one source"),
        ("services: &s\n  a: *s\n", 1, "contains itself"),
        ("- a\n", 1, "must be a mapping"),
        ("name: x\n", 1, "services: there are none"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(CoredError) as caught:
        project(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/compose.0.yaml:{line}: ")
    assert words in str(caught.value)


def test_a_circle_of_services_is_told(tmp_path: Path) -> None:
    text = "services:\n  a:\n    image: b\n    depends_on: [c]\n  c: {image: b, links: [a]}\n"
    with pytest.raises(InvalidArgument, match=r"0.yaml:4: services.a.depends_on: .*a -> c -> a"):
        project(tmp_path, text)


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InvalidArgument, match="more than"):
        project(tmp_path, "\n".join(lines))


def test_without_interpolation_variables_stay(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services: {a: {image: 'b:${T:-x}', ports: ['${P}:80'], command: echo $$X}}\n"
    )
    found = printing.document(raw(Request(environ={}, here=tmp_path)), escape=False)
    assert found["services"]["a"]["image"] == "b:${T:-x}"
    assert found["services"]["a"]["ports"] == ["${P}:80"]
    assert found["services"]["a"]["command"] == ["echo", "$$X"]


def test_the_hash_is_of_what_makes_a_container(tmp_path: Path) -> None:
    def of(body: str) -> str:
        text = f"services:\n  a:\n    image: b\n    {body}\n"
        return printing.service_hash(project(tmp_path, text), "a")

    assert of("command: x") == of("command: [x]")
    assert of("command: x") == of("{}: 1".format("scale") + "\n    command: x")
    assert of("command: x") != of("command: y")


def test_what_is_printed_is_read_the_same(tmp_path: Path) -> None:
    first = project(tmp_path, FULL, environ={"X": "$x"}, profiles=["*"])
    printed = printing.as_yaml(printing.document(first.tree))
    second = project(tmp_path, printed, profiles=["*"])
    assert second.services == first.services
    assert second.networks == first.networks
    assert second.configs == first.configs
    assert printing.hashes(second) == printing.hashes(first)
