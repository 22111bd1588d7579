"""The classic application: a web program and a database, with a volume between their lives."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import CORECTL, Daemon
from tests.debian import base_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

COMPOSE = """
name: blog
services:
  web:
    build: {context: ., dockerfile_inline: "FROM base\\nCOPY web.py /"}
    command: [python3, /web.py]
    environment: {DATABASE: db, PASSWORD_FILE: /run/secrets/password}
    secrets: [password]
    ports: ["127.0.0.1::8000"]
    depends_on: {db: {condition: service_healthy}}
    networks: [front, back]
    healthcheck: {test: [CMD, busybox, wget, -qO-, "localhost:8000"], interval: 200ms, retries: 300}
    stop_signal: KILL
  db:
    build: {context: ., dockerfile: Dockerfile.db}
    command: [sh, /start]
    secrets: [password]
    volumes: ["rows:/var/lib/mysql"]
    networks: [back]
    stop_grace_period: 30s
    healthcheck: {test: [CMD, python3, /ready.py], interval: 200ms, retries: 300}
networks:
  front: {}
  back: {internal: true}
volumes: {rows: {}}
secrets: {password: {environment: DATABASE_PASSWORD}}
"""

DOCKERFILE = """
FROM base
RUN mkdir -p /run/mysqld /var/lib/mysql \\
 && echo 'mysql:x:100:100::/var/lib/mysql:/bin/sh' >> /etc/passwd \\
 && echo 'mysql:x:100:' >> /etc/group && chown -R mysql:mysql /run/mysqld /var/lib/mysql
COPY start ready.py /
USER mysql
VOLUME /var/lib/mysql
"""

START = """
set -e
if [ ! -d /var/lib/mysql/mysql ]; then
    cd /usr/share/mysql
    password=$(cat /run/secrets/password)
    # one statement to a line
    { echo 'CREATE DATABASE mysql;'
      echo 'USE mysql;'
      cat mysql_system_tables.sql mysql_performance_tables.sql mysql_system_tables_data.sql
      echo "FLUSH PRIVILEGES;"
      echo "CREATE USER 'web'@'%' IDENTIFIED BY '$password';"
      echo "CREATE DATABASE blog;"
      echo "GRANT ALL ON blog.* TO 'web'@'%';"
    } | mariadbd --no-defaults --bootstrap --datadir=/var/lib/mysql --log-warnings=0
fi
exec mariadbd --no-defaults --datadir=/var/lib/mysql --socket=/run/mysqld/socket \\
    --pid-file=/run/mysqld/pid --bind-address=0.0.0.0 --innodb-buffer-pool-size=32M
"""

CONNECT = """
import os, pymysql
def connect(host):
    password = open(os.environ.get("PASSWORD_FILE", "/run/secrets/password")).read().strip()
    return pymysql.connect(host=host, user="web", password=password, database="blog",
                           autocommit=True)
"""

READY = CONNECT + 'connect("127.0.0.1").ping()\n'

WEB = (
    CONNECT
    + """
import http.server, json
class Posts(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(text)
    def answer(self, text=None):
        with connect(os.environ["DATABASE"]) as database, database.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS posts"
                           " (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100))")
            if text:
                cursor.execute("INSERT INTO posts (text) VALUES (%s)", (text,))
            cursor.execute("SELECT text FROM posts ORDER BY id")
            body = json.dumps([row[0] for row in cursor]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Posts).serve_forever()
"""
)


class Blog:
    def __init__(self, daemon: Daemon, place: Path) -> None:
        self._daemon, self._place = daemon, place

    def compose(self, *words: str) -> str:
        done = self._run(*words)
        assert done.returncode == 0, (words, done.stderr, self._run("logs").stdout)
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*CORECTL, "--address", str(self._daemon.address), "compose", *words]
        return subprocess.run(
            command, cwd=self._place, capture_output=True, text=True, timeout=180, check=False
        )

    def posts(self, text: str | None = None) -> list[str]:
        """What the published port answers, after one more post where there is a text."""
        where = self.compose("port", "web", "8000").strip()
        data = None if text is None else text.encode()
        asked = urllib.request.Request(f"http://{where}/", data=data)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: list[str] = json.loads(answer.read())
        return found


@pytest.fixture
def blog(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blog]:
    monkeypatch.setenv("DATABASE_PASSWORD", "open sesame")
    packages = ["mariadb-server-core", "python3", "python3-pymysql"]
    base = base_image(
        tmp_path / "base.tar",
        "docker.io/library/base:latest",
        packages,
        without=["tar", "dpkg", "perl-base", "debconf"],
    )
    daemon.corectl("image", "import", "-q", str(base), check=True)
    for name, text in {
        "compose.yaml": COMPOSE,
        "Dockerfile.db": DOCKERFILE,
        "start": START,
        "ready.py": READY,
        "web.py": WEB,
    }.items():
        (tmp_path / name).write_text(text)
    made = Blog(daemon, tmp_path)
    yield made
    made.compose("down", "-v", "--rmi", "all", "-t", "0")


def test_what_is_written_through_the_web_application_stays_in_the_database(blog: Blog) -> None:
    blog.compose("up", "-d", "--wait")
    assert blog.posts() == []
    assert blog.posts("first") == ["first"]
    blog.compose("stop")
    with pytest.raises((urllib.error.URLError, AssertionError)):
        blog.posts()
    blog.compose("up", "-d", "--wait")
    assert blog.posts("second") == ["first", "second"]
    blog.compose("down")
    assert blog.compose("ps", "-a", "-q") == ""
    blog.compose("up", "-d", "--wait")
    assert blog.posts() == ["first", "second"]
    web = blog.compose("logs", "--no-log-prefix", "web")
    assert "open sesame" not in web
