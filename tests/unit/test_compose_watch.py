"""Which files rules watch, and what of them changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corectl.compose.files import Request
from corectl.compose.project import Project, load
from corectl.compose.watching import Changes, Tree, trees

from cored.errors import InvalidArgument

WATCHED = """
services:
  web:
    build: .
    develop:
      watch:
        - {path: ./src, action: sync, target: /app/, ignore: "*.log", initial_sync: true}
        - {path: ./src, action: sync+restart, target: /app, include: ["*.py", conf]}
        - path: package.json
          action: sync+exec
          target: /app/package.json
          exec: {command: npm install}
        - {path: ., action: rebuild, ignore: [src]}
"""


def project(place: Path, text: str = WATCHED) -> Project:
    (place / "compose.yaml").write_text(text)
    return load(Request(environ={}, here=place, name="app"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path in ("src/a.py", "src/b.log", "src/.git/config", "src/d/c.txt", "src/conf/x", "x/y"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "Dockerfile").write_text("FROM b")
    (tmp_path / ".dockerignore").write_text("x\n**/*.txt\n!src/d/kept.txt\n")
    return tmp_path


def watched(place: Path) -> list[Tree]:
    return trees(project(place).services)


def test_rules_have_their_patterns_and_those_of_the_build(place: Path) -> None:
    (place / "src/d/kept.txt").write_text("")
    sync, some, package, rebuild = watched(place)
    assert sync.everything().written == ("a.py", "conf/x", "d/kept.txt")
    assert some.everything().written == ("a.py", "conf/x")
    assert package.everything().written == ("",)
    assert rebuild.everything().written == (
        ".dockerignore", "Dockerfile", "compose.yaml", "package.json",
    )  # fmt: skip
    assert (sync.target("d/kept.txt"), package.target("")) == (
        "/app/d/kept.txt",
        "/app/package.json",
    )
    assert package.rule.exec is not None
    assert package.rule.exec.command == ("npm", "install")


def test_what_changed_is_told_once(place: Path) -> None:
    sync, *_ = watched(place)
    assert sync.look() == Changes()
    (place / "src/a.py").write_text("other")
    (place / "src/new").mkdir()
    (place / "src/new/f").write_text("")
    assert sync.look() == Changes(("a.py", "new/f"))
    assert sync.look() == Changes()
    (place / "src/b.log").write_text("more")
    shutil.rmtree(place / "src/conf")
    (place / "src/a.py").unlink()
    assert sync.look() == Changes((), ("a.py", "conf"))
    shutil.rmtree(place / "src")
    assert sync.look().removed == ("new",)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{path: ., action: sync}", "4: services.a.develop.watch.0: action sync needs an absolute"),
        ("{path: ., action: sync, target: rel}", "needs an absolute 'target'"),
        ("{path: ., action: sync+exec, target: /x}", "needs 'exec'"),
        ("{path: ., action: rebuild}", "needs a 'build' section"),
        ("{path: ., action: copy}", "action"),
        ("{action: restart}", "'path' is missing"),
    ],
)
def test_rules_that_mean_nothing_are_refused(tmp_path: Path, rule: str, words: str) -> None:
    text = f"services:\n  a:\n    image: b\n    develop: {{watch: [{rule}]}}\n"
    with pytest.raises(InvalidArgument, match=words):
        project(tmp_path, text)
