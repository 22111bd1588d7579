"""Whole applications from Dockerfiles as people write them: built, run, and asked over a port.

Their base images are made from Debian packages that are installed here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builds import Shop
from tests.daemons import Daemon
from tests.debian import base_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

PACKAGES: dict[str, dict[str, list[str]]] = {
    "node": {
        "packages": ["nodejs", "npm"],
        "without": ["python3", "python3-minimal", "ca-certificates"],
        # where nodejs is not Debian's, npm comes with it and is updated by itself
        "trees": ["/usr/lib/node_modules/npm"],
    },
    "python": {
        "packages": ["python3-minimal", "libpython3-stdlib", "python3-venv"],
        "without": ["media-types", "python3-distutils", "python3-lib2to3", "tzdata", "dpkg"],
    },
    "gcc": {
        "packages": ["gcc", "libc6-dev"],
        "without": ["perl", "debconf", "libnsl2", "libtirpc3", "libgprofng0"],
    },
}


@pytest.fixture(scope="module")
def bases(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon knows an image for each of :data:`PACKAGES`."""
    place = tmp_path_factory.mktemp("bases")
    for name, parts in PACKAGES.items():
        archive = base_image(place / f"{name}.tar", f"{name}:1", **parts)
        daemon.corectl("load", "-i", str(archive), check=True)
        archive.unlink()
    yield daemon


@pytest.fixture
def shop(bases: Daemon, tmp_path: Path) -> Shop:
    return Shop(bases, tmp_path)


def ran(told: str) -> list[str]:
    """The steps that were not cached, from what --explain says."""
    return [line.split("] ", 1)[1] for line in told.splitlines() if line.startswith("ran ")]


@contextmanager
def running(shop: Shop, image: str, port: int) -> Iterator[str]:
    """The address of a container's port on this machine."""
    name = image.replace(":", "-")
    shop("run", "-d", "--name", name, "-p", f"127.0.0.1:1{port}:{port}", image)
    try:
        yield f"http://127.0.0.1:1{port}/"
    finally:
        shop("rm", "-f", name)


def answer(url: str) -> str:
    """What a server says once it is up."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.1)


class Registry(http.server.BaseHTTPRequestHandler):
    """npm's: one package, ``greeting``."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        tarball = packed(
            {
                "package/package.json": '{"name": "greeting", "version": "1.2.0"}',
                "package/index.js": "module.exports = name => `hello ${name}`;\n",
            }
        )
        port = self.server.server_address[1]  # type: ignore[index]
        integrity = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        version = {
            "name": "greeting", "version": "1.2.0",
            "dist": {
                "tarball": f"http://127.0.0.1:{port}/greeting/-/greeting-1.2.0.tgz",
                "integrity": f"sha512-{integrity}",
            },
        }  # fmt: skip
        document = {
            "name": "greeting", "dist-tags": {"latest": "1.2.0"}, "versions": {"1.2.0": version},
        }  # fmt: skip
        known = {
            "/greeting": json.dumps(document).encode(),
            "/greeting/-/greeting-1.2.0.tgz": tarball,
        }
        body = known.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_POST(self) -> None:  # questions about security
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def packed(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    # the same bytes at any time
    return gzip.compress(out.getvalue(), mtime=0)


@contextmanager
def registry() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Registry,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        finally:
            server.shutdown()
            thread.join()


NODE = """FROM node:1
ARG npm_config_registry
# where the application lives
WORKDIR /usr/src/app
# dependencies first: they change less often than the sources
COPY package*.json ./
RUN npm install
COPY . .
EXPOSE 8080
CMD [ "node", "server.js" ]
"""
SERVER_JS = """const greeting = require('greeting');
require('http').createServer((_, answer) => answer.end(greeting('world')))
  .listen(8080, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
"""


def test_the_tutorials_application_for_node_installs_once_and_answers(shop: Shop) -> None:
    package = {
        "name": "docker_web_app", "version": "1.0.0", "main": "server.js",
        "dependencies": {"greeting": "^1.1.0"},
    }  # fmt: skip
    context = shop.context(
        NODE,
        {
            "package.json": json.dumps(package), "server.js": SERVER_JS,
            ".dockerignore": "node_modules\nnpm-debug.log\nDockerfile\n",
            "node_modules/greeting/index.js": "throw new Error('of the host')",
        },
    )  # fmt: skip
    with registry() as (address, asked):
        given = ("--network", "host", "--build-arg", f"npm_config_registry={address}")
        told = shop.build(context, *given, "-t", "tutorial:1")
        assert "added 1 package" in told and asked.count("/greeting/-/greeting-1.2.0.tgz") == 1
        with running(shop, "tutorial:1", 8080) as url:
            assert answer(url) == "hello world"

        (context / "server.js").write_text(SERVER_JS.replace("world", "all"))
        assert ran(shop.build(context, *given, "-t", "tutorial:2", "--explain")) == ["COPY . ."]
        assert asked.count("/greeting/-/greeting-1.2.0.tgz") == 1
        with running(shop, "tutorial:2", 8080) as url:
            assert answer(url) == "hello all"

        (context / "package.json").write_text(json.dumps({**package, "version": "1.0.1"}))
        assert ran(shop.build(context, *given, "-t", "tutorial:3", "--explain")) == [
            "COPY package*.json ./", "RUN npm install", "COPY . .",
        ]  # fmt: skip
        assert asked.count("/greeting/-/greeting-1.2.0.tgz") == 2
    assert shop.config("tutorial:3")["Cmd"] == ["node", "server.js"]


PYTHON = """FROM python:1 AS packages
RUN python3 -m venv /venv
COPY requirements.txt .
RUN --mount=type=bind,source=wheels,target=/wheels \\
    /venv/bin/pip install --no-index --find-links /wheels -r requirements.txt

FROM python:1
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
COPY --from=packages /venv /venv
COPY app.py .
USER nobody
EXPOSE 8000
CMD ["python", "app.py"]
"""
APP_PY = """import http.server
import politeness

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(politeness.greeting('world').encode())

http.server.HTTPServer(('', 8000), Handler).serve_forever()
"""


def wheel(version: str) -> bytes:
    """The package ``politeness``."""
    info = f"politeness-{version}.dist-info"
    files = {
        "politeness.py": f"def greeting(who):\n    return f'good day, {{who}} ({version})'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: politeness\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return out.getvalue()


def test_an_application_in_python_is_built_in_stages_and_answers(shop: Shop) -> None:
    context = shop.context(
        PYTHON,
        {
            "requirements.txt": "politeness>=2\n", "app.py": APP_PY,
            "wheels/politeness-2.0-py3-none-any.whl": wheel("2.0"),
        },
    )  # fmt: skip
    assert "Successfully installed politeness-2.0" in shop.build(context, "-t", "polite:1")
    with running(shop, "polite:1", 8000) as url:
        assert answer(url) == "good day, world (2.0)"

    (context / "app.py").write_text(APP_PY.replace("world", "all"))
    assert ran(shop.build(context, "-t", "polite:2", "--explain")) == ["COPY app.py ."]
    with running(shop, "polite:2", 8000) as url:
        assert answer(url) == "good day, all (2.0)"

    (context / "wheels/politeness-2.1-py3-none-any.whl").write_bytes(wheel("2.1"))
    told = shop.build(context, "-t", "polite:3", "--explain")
    assert [step.split()[0] for step in ran(told)] == ["RUN", "COPY", "COPY"]
    assert "mount /wheels: file wheels/politeness-2.1-py3-none-any.whl: is new" in told
    with running(shop, "polite:3", 8000) as url:
        assert answer(url) == "good day, all (2.1)"


C = """FROM gcc:1 AS build
WORKDIR /src
COPY answer.h answer.c ./
RUN gcc -O2 -Wall -c answer.c
COPY server.c .
RUN gcc -O2 -Wall -static -o /server server.c answer.o

FROM scratch
COPY --from=build /server /server
EXPOSE 9000
ENTRYPOINT ["/server"]
"""
SERVER_C = """#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include "answer.h"

int main(void) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(9000)};
    int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, (void *)&place, sizeof place) || listen(server, 16)) return 1;
    for (;;) {
        char request[4096];
        int client = accept(server, 0, 0);
        if (read(client, request, sizeof request) > 0) answer(client, "one");
        close(client);
    }
}
"""
ANSWER_C = """#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "answer.h"

void answer(int client, const char *what) {
    char text[200];
    int size = snprintf(text, sizeof text, "HTTP/1.0 200 OK\\r\\nContent-Length: %zu\\r\\n\\r\\n%s",
                        strlen(what), what);
    if (write(client, text, size) != size) perror("write");
}
"""


def test_a_program_in_c_is_compiled_in_one_stage_and_alone_in_the_next(shop: Shop) -> None:
    context = shop.context(
        C,
        {
            "server.c": SERVER_C, "answer.c": ANSWER_C,
            "answer.h": "void answer(int client, const char *what);\n",
        },
    )  # fmt: skip
    assert set(shop.tree(context, "-t", "compiled:1")) == {"server"}
    with running(shop, "compiled:1", 9000) as url:
        assert answer(url) == "one"

    (context / "server.c").write_text(SERVER_C.replace("one", "two"))
    told = shop.build(context, "-t", "compiled:2", "--explain")
    assert ran(told) == [
        "COPY server.c .",
        "RUN gcc -O2 -Wall -static -o /server server.c answer.o",
        "COPY --from=build /server /server",
    ]
    assert "file server.c: changed" in told
    with running(shop, "compiled:2", 9000) as url:
        assert answer(url) == "two"

    # a change that compiles to the same program ends there: the next stage knows its file
    (context / "server.c").write_text(SERVER_C.replace("one", "two") + "/* said again */\n")
    assert ran(shop.build(context, "-t", "compiled:3", "--explain")) == [
        "COPY server.c .", "RUN gcc -O2 -Wall -static -o /server server.c answer.o",
    ]  # fmt: skip
    broken = SERVER_C.replace("listen(server, 16)", "listen(server, 16")
    (context / "server.c").write_text(broken)
    failed = shop.build(context, "-t", "compiled:4", code=1)
    assert "Dockerfile:6: RUN: " in failed and "server.c:10:" in failed
