"""The same files through Debian's docker-compose config and ours come to the same model.

What docker-compose prints is read by us again, so that short and long forms count as the same.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from corectl.compose.files import Request
from corectl.compose.project import Project, load

pytestmark = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="needs Debian's docker-compose"
)

CORPUS = {
    "basic": """
services:
  web:
    image: "nginx:${TAG:-1.25}"
    command: nginx -g 'daemon off;'
    ports: ["8080:80", "443", "127.0.0.1:9000-9002:9000-9002/udp"]
    environment: [A=1, B, "C=${C-none}", "D=$$x"]
    volumes: [./static:/static:ro, data:/data, /anonymous]
    depends_on: [db]
    networks: [front, back]
  db:
    image: postgres
    environment: {PASSWORD: "${PASSWORD:-secret}", EMPTY: ""}
    networks: {back: {aliases: [database]}}
    restart: always
networks: {front: , back: {internal: true}}
volumes: {data: }
""",
    "build": """
services:
  a: {build: ./dir}
  b:
    build: {context: ., dockerfile: Other, args: [X=1], target: t, labels: {l: m},
      cache_from: [c], network: host, shm_size: 64m, extra_hosts: ["h:1.2.3.4"]}
    image: named
""",
    "limits": """
services:
  a:
    image: b
    mem_limit: 64m
    memswap_limit: 1g
    mem_reservation: 32m
    mem_swappiness: 10
    cpus: 1.5
    cpu_shares: 100
    cpu_quota: 50000
    cpuset: 0-1
    pids_limit: 20
    shm_size: 1m
    ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
    oom_score_adj: 100
    oom_kill_disable: true
    blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1mb}]}
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.5", memory: 50M}, reservations: {memory: 20M}}
""",
    "isolation": """
services:
  a:
    image: b
    cap_add: [SYS_ADMIN]
    cap_drop: [ALL]
    privileged: true
    read_only: true
    security_opt: ["no-new-privileges:true"]
    devices: ["/dev/fuse:/dev/fuse:rwm"]
    device_cgroup_rules: ['c 1:3 mr']
    group_add: [mail]
    user: "1000:1000"
    userns_mode: host
    ipc: host
    pid: host
    init: true
    tmpfs: [/run]
    sysctls: {net.core.somaxconn: "1024"}
    runtime: crun
    network_mode: host
""",
    "life": """
services:
  a:
    image: b
    healthcheck: {test: [CMD, "true"], interval: 1m30s, timeout: 10s, retries: 3,
      start_period: 1m}
    stop_grace_period: 1m30s
    stop_signal: SIGUSR1
    restart: on-failure:3
    logging: {driver: json-file, options: {max-size: 10m}}
    depends_on: {c: {condition: service_healthy}}
    entrypoint: /bin/sh -c
    stdin_open: true
    tty: true
    hostname: h
    domainname: d.example
    dns: [1.1.1.1]
    dns_search: [example.com]
    dns_opt: [use-vc]
    extra_hosts: ["x:1.2.3.4"]
    labels: [a=b, c=]
    working_dir: /w
    expose: ["80"]
  c: {image: d, healthcheck: {disable: true}}
""",
    "outer": """
services:
  a: {image: b, networks: {n: {ipv4_address: 10.9.0.5}}, configs: [c],
    secrets: [{source: s, target: t, uid: "1", gid: "2", mode: 0400}], volumes: ["v:/v"]}
networks:
  n: {driver: bridge, name: own, driver_opts: {x: "y"}, labels: {l: m},
    ipam: {driver: default, config: [{subnet: 10.9.0.0/16, gateway: 10.9.0.1}]}}
volumes:
  v: {name: vol, driver: local, driver_opts: {type: none}, labels: {l: m}}
  o: {external: true, name: outside}
configs: {c: {file: ./c}}
secrets: {s: {file: ./s}}
""",
    "anchors": """
x-base: &base {image: b, environment: &env {A: "1", B: "2"}}
services:
  a: {<<: *base, command: x}
  c: {<<: *base, environment: {<<: *env, B: "3"}}
""",
    "long": """
services:
  a:
    image: b
    ports: [{target: 80, published: 8080, protocol: tcp, mode: host}]
    volumes:
      - {type: bind, source: ., target: /b, read_only: true, bind: {propagation: rshared}}
      - {type: volume, source: v, target: /v, volume: {nocopy: true}}
      - {type: tmpfs, target: /t, tmpfs: {size: 1000}}
    env_file: [e.env]
volumes: {v: }
""",
    "profiles": """
services:
  a: {image: b}
  c: {image: d, profiles: [p]}
""",
    "extends": """
services:
  a: {extends: {service: c}, environment: {B: "3"}, cap_add: [X]}
  c: {image: d, environment: {A: "1", B: "2"}, labels: {l: m}, command: [x]}
""",
}
# keys in which the two are not the same, and why
DIFFERENCES: dict[str, dict[str, str]] = {
    "basic": {"environment": "a variable that nobody has set: ours is not set, theirs is empty"},
    "life": {"healthcheck": "disable: true is printed as the test NONE, which is the same"},
}


def theirs(place: Path, environ: dict[str, str], *more: str) -> Project:
    done = subprocess.run(
        ["docker-compose", "-p", "app", *more, "config"],
        cwd=place,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = place / "printed.yaml"
    printed.write_text(done.stdout)
    files = [str(printed)]
    return load(Request(files=files, environ=environ, here=place, name="app"))


def fields(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


@pytest.mark.parametrize("name", CORPUS)
def test_docker_compose_reads_it_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / "docker-compose.yml").write_text(CORPUS[name])
    for file, text in (("c", "config"), ("s", "secret"), ("e.env", "X=1\nY=two words\n")):
        (tmp_path / file).write_text(text)
    (tmp_path / "dir").mkdir()
    environ = {"TAG": "1.26", "PASSWORD": ""}
    ours = load(Request(environ=environ, here=tmp_path, name="app", profiles=[]))
    other = theirs(tmp_path, environ)
    assert ours.services.keys() == other.services.keys()
    for service in ours.services:
        mine, yours = fields(ours.services[service]), fields(other.services[service])
        differ = {key for key in mine if mine[key] != yours[key]}
        told = DIFFERENCES.get(name, {}).keys()
        assert differ <= told, {key: (mine[key], yours[key]) for key in differ - told}
    assert ours.networks == other.networks
    assert ours.volumes == other.volumes
    assert ours.configs == other.configs
    assert ours.secrets == other.secrets


def test_docker_compose_merges_files_the_same(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(CORPUS["basic"])
    (tmp_path / "over.yml").write_text(
        "services:\n  web:\n    command: other\n    environment: {A: '2', E: '5'}\n"
        "    ports: ['8081:80']\n    volumes: ['./new:/static']\n    cap_add: [X]\n"
    )
    files = ["docker-compose.yml", "over.yml"]
    ours = load(Request(files=files, environ={}, here=tmp_path, name="app"))
    other = theirs(tmp_path, {}, "-f", files[0], "-f", files[1])
    mine, yours = fields(ours.services["web"]), fields(other.services["web"])
    assert {key for key in mine if mine[key] != yours[key]} <= {
        "environment",
        "networks",
        "ports",
        "volumes",
    }
    # what nothing is said of is {} in theirs, null in ours
    assert mine["networks"].keys() == yours["networks"].keys()
    # theirs lists mounts and ports in the order of the merged file, ours in that of the files
    assert set(map(repr, mine["ports"])) == set(map(repr, yours["ports"]))
    assert set(map(repr, mine["volumes"])) == set(map(repr, yours["volumes"]))
