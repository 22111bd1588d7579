"""Parts of the builder that need no kernel: plans, keys, modes, masks, trees of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cored_service_build.cache import key_of
from cored_service_build.changes import changes
from cored_service_build.configuration import configure, working_directory
from cored_service_build.copying import Copying, changed_mode
from cored_service_build.dockerfile.parser import parse
from cored_service_build.dockerfile.scopes import platform_arguments
from cored_service_build.dockerfile.source import DockerfileError
from cored_service_build.dockerfile.words import Expansion
from cored_service_build.graph import plan
from cored_service_build.outputs import Masked
from cored_service_build.state import StageState
from cored_service_build.stubs import Stubs
from cored_service_build.trees import Digests, located, selected

from cored.errors import FailedPrecondition, InvalidArgument, NotFound

PLATFORM = platform_arguments("linux/arm64/v8", "linux/amd64")


def needed(text: str, target: str = "", **args: str) -> list[str]:
    return [stage.name for stage in plan(parse(text), target, args, PLATFORM).needed]


def test_a_plan_has_what_the_target_needs_in_order() -> None:
    text = (
        "FROM a AS one\nFROM b AS unused\nFROM one AS two\nFROM c\nCOPY --from=two / /\n"
        "RUN --mount=from=0,target=/x true"
    )
    assert needed(text) == ["one", "two", "3"]
    assert needed(text, "two") == ["one", "two"]
    assert needed(text, "1") == ["unused"]
    with pytest.raises(InvalidArgument, match="no such stage"):
        needed(text, "nine")


def test_a_name_that_no_earlier_stage_has_is_an_image() -> None:
    found = plan(parse("FROM later AS x\nFROM y AS later"), "x", {}, PLATFORM)
    assert [stage.name for stage in found.needed] == ["x"]


def test_froms_have_the_arguments_before_the_first() -> None:
    text = "ARG V=1\nARG I=image:$V\nFROM --platform=$BUILDPLATFORM $I\nFROM x-$TARGETARCH"
    found = plan(parse(text), "0", {"V": "2"}, PLATFORM)
    assert found.bases == {0: "image:2", 1: "x-arm64"} and found.platforms[0] == "linux/amd64"


@pytest.mark.parametrize(
    "text",
    ["FROM x AS a\nCOPY --from=a / /", "FROM x AS a\nCOPY --from=b / /\nFROM a AS b"],
)
def test_stages_that_need_themselves_are_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="needs itself: a -> "):
        needed(text, "a")


def test_keys_depend_on_values_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": {"c": 2, "d": 3}}) == key_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": "1"})


def test_changes_are_told_from_the_most_similar_record() -> None:
    new = {"parent": "p", "files": {"a": "1", "b": "2"}, "env": {"X": "1"}, "user": "me"}
    assert changes(new, []) == ("this instruction was never run",)
    near = {**new, "files": {"a": "0", "c": "3"}, "env": {"X": "0"}}
    far = {"parent": "q", "files": {}, "env": {}, "user": "you"}
    assert set(changes(new, [far, near])) == {
        "file a: changed", "file b: is new", "file c: is gone", "variable X: '0' -> '1'",
    }  # fmt: skip
    assert changes(new, [{**new, "parent": "q"}]) == ("the step before it made something else",)
    mount = {"type": "bind", "target": "/m", "content": {"a": "1"}}
    other = {**mount, "content": {"a": "2"}}
    assert changes({"mounts": [mount]}, [{"mounts": [other]}]) == ("mount /m: file a: changed",)


@pytest.mark.parametrize(
    ("text", "mode", "directory", "want"),
    [
        ("640", 0o777, False, 0o640), ("4755", 0, False, 0o4755),
        ("u=rwX,go=rX", 0o600, True, 0o755), ("u=rwX,go=rX", 0o600, False, 0o644),
        ("go-w", 0o666, False, 0o644),
        ("+x", 0o644, False, 0o755), ("a=r", 0o777, False, 0o444), ("u+s", 0o755, False, 0o4755),
        ("+t", 0o755, True, 0o1755), ("", 0o123, False, 0o123),
    ],
)  # fmt: skip
def test_modes_are_chmods(text: str, mode: int, directory: bool, want: int) -> None:
    assert changed_mode(text, mode, directory=directory) == want


def test_modes_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid"):
        changed_mode("u*x", 0)


def test_secrets_are_masked_however_they_are_cut() -> None:
    for size in range(1, 12):
        told: list[bytes] = []
        masked = Masked([b"hunter22", b"hunter2"], told.append)
        text = b"a hunter22 b hunter2 c hunt"
        for start in range(0, len(text), size):
            masked.add(text[start : start + size])
        masked.end()
        assert b"".join(told) == b"a *** b *** c hunt", size


def state() -> StageState:
    found = StageState.scratch("linux/amd64")
    found.config["Cmd"] = ["from", "base"]
    return found


def configured(text: str, on: StageState | None = None) -> StageState:
    on = on or state()
    for entry in parse(f"FROM scratch\n{text}").stages[0].instructions:
        words = Expansion(on.variables)
        configure(on, entry, words.word, words.words)
    return on


def test_an_entrypoint_forgets_the_command_of_its_base_and_no_other() -> None:
    assert "Cmd" not in configured('ENTRYPOINT ["x"]').config
    assert configured('CMD ["y"]\nENTRYPOINT ["x"]').config["Cmd"] == ["y"]


def test_variables_of_one_env_do_not_see_each_other() -> None:
    found = configured("ENV a=1\nENV a=2 b=$a c=$d").env
    assert (found["a"], found["b"], found["c"]) == ("2", "1", "")


def test_ports_are_ranges_with_protocols() -> None:
    found = configured("ENV P=80\nEXPOSE $P 8000-8002/UDP").config["ExposedPorts"]
    assert list(found) == ["80/tcp", "8000/udp", "8001/udp", "8002/udp"]
    for bad in ("0", "70000", "1/quic"):
        with pytest.raises(InvalidArgument):
            configured(f"EXPOSE {bad}")


def test_working_directories_lead_on() -> None:
    on = state()
    on.config["WorkingDir"] = "/a/b"
    assert working_directory(on, "c") == "/a/b/c" and working_directory(on, "../x/") == "/a/x"
    assert working_directory(on, "//y") == "/y"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/f").write_text("f")
    (root / "one.c").write_text("1")
    (root / "two.c").write_text("2")
    (root / "out").symlink_to("../../../../etc")
    (root / "in").symlink_to("/d/e")
    return root


def test_links_lead_nowhere_but_into_the_tree(tree: Path) -> None:
    assert located(tree, "out/passwd") == "etc/passwd" and located(tree, "in/f") == "d/e/f"
    assert located(tree, "../../d") == "d"
    (tree / "ring").symlink_to("ring")
    with pytest.raises(InvalidArgument, match="too many"):
        located(tree, "ring/x")


def test_patterns_select_and_what_is_missing_is_said(tree: Path) -> None:
    assert [s.name for s in selected(tree, "*.c")] == ["one.c", "two.c"]
    assert [s.name for s in selected(tree, "**/f")] == ["d/e/f"]
    assert [s.name for s in selected(tree, "*.c", ["two*"])] == ["one.c"]
    for absent in ("nine", "*.h", "d/../x"):
        with pytest.raises(NotFound):
            selected(tree, absent)


def test_digests_know_contents_and_modes_and_no_times(tree: Path) -> None:
    def now() -> dict[str, str]:
        return dict(Digests().of(selected(tree, "."), owners=False))

    before = now()
    os.utime(tree / "one.c", (1, 1))
    assert now() == before
    (tree / "one.c").chmod(0o600)
    after = now()
    assert [name for name in before if before[name] != after[name]] == ["one.c"]
    (tree / "one.c").write_text("other")
    assert now() != after


def test_copies_keep_to_the_root_and_make_directories(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "away").symlink_to("/else")
    copying = Copying(target, (os.getuid(), os.getgid()), "600")
    copying.copy(selected(tree, "one.c"), "/away/x/")
    copying.copy(selected(tree, "d"), "/new")
    assert (target / "else/x/one.c").read_text() == "1" and (target / "new/e/f").exists()
    assert (target / "new/e/f").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FailedPrecondition, match="over the directory"):
        copying.copy(selected(tree, "one.c"), "/new/./e/../")
        copying.copy([*selected(tree, "d/e/f")], "/new/e/f/..")
        (target / "clash/one.c").mkdir(parents=True)
        copying.copy(selected(tree, "one.c"), "/clash/")
    with pytest.raises(InvalidArgument, match="must end with /"):
        copying.copy([*selected(tree, "*.c")], "/several")


def test_places_for_mounts_go_unless_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.utime(tmp_path / "etc", (5, 5))
    stubs = Stubs.before(tmp_path, ["/etc/hosts", "/a/b", "/used", "/etc"])
    (tmp_path / "etc/hosts").touch()
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "used").write_text("something")
    stubs.remove(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["etc", "used"]
    assert (tmp_path / "etc").stat().st_mtime == 5
