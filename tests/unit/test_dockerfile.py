"""The Dockerfile parser: a corpus of what people write, and what it must become."""

from __future__ import annotations

import pytest
from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.ignore import read as read_ignore
from cored_service_build.dockerfile.lint import errors_wanted, lint
from cored_service_build.dockerfile.parser import parse
from cored_service_build.dockerfile.source import DockerfileError
from cored_service_build.dockerfile.words import Expansion, WordError, split


def first(text: str) -> i.Instruction:
    return parse(f"FROM scratch\n{text}").stages[0].instructions[0]


def test_comments_and_blank_lines_within_a_continued_line_are_left_out() -> None:
    found = first("RUN one \\\n  # a comment\n\n  && two \\\n# more\n  && three")
    assert isinstance(found, i.Run)
    assert found.command == i.Command(("one   && two   && three",), shell=True)
    assert (found.where.first, found.where.last) == (2, 7)


def test_an_escaped_escape_at_the_end_does_not_continue() -> None:
    stage = parse("FROM scratch\nRUN echo \\\\\nUSER me").stages[0]
    assert [entry.word for entry in stage.instructions] == ["RUN", "USER"]


def test_the_escape_directive_changes_what_continues() -> None:
    found = parse("# escape=`\nFROM scratch\nRUN dir c:\\ `\n  && next").stages[0].instructions
    assert isinstance(found[0], i.Run) and found[0].command.args == ("dir c:\\   && next",)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('CMD ["a", "b c"]', i.Command(("a", "b c"))),
        ("CMD a b", i.Command(("a b",), shell=True)),
        ("CMD ['a']", i.Command(("['a']",), shell=True)),
        ("CMD [1]", i.Command(("[1]",), shell=True)),
        ("CMD []", i.Command(())),
    ],
)
def test_commands_are_json_or_shell(text: str, want: i.Command) -> None:
    found = first(text)
    assert isinstance(found, i.Cmd) and found.command == want


def test_heredocs_are_read_to_their_ends() -> None:
    found = parse(
        "FROM scratch\nCOPY <<A <<-\"B\" /to/\nx $y\n# kept \\\nA\n\ttabs\n\tB\nUSER me"
    ).stages[0].instructions  # fmt: skip
    copy = found[0]
    assert isinstance(copy, i.Copy) and copy.sources == () and copy.target == "/to/"
    assert [(d.name, d.content, d.expand) for d in copy.heredocs] == [
        ("A", "x $y\n# kept \\\n", True),
        ("B", "tabs\n", False),
    ]
    assert isinstance(found[1], i.User)


def test_a_shift_within_quotes_is_no_heredoc() -> None:
    found = first("RUN echo '<<EOF' \"<<X\"")
    assert isinstance(found, i.Run) and found.heredocs == ()


def test_run_takes_mounts_and_a_network() -> None:
    found = first(
        "RUN --mount=type=cache,target=/c,sharing=locked --mount=from=x,src=/a,dst=/b "
        "--network=none make"
    )
    assert isinstance(found, i.Run)
    assert [(m.type, m.get("target", "dst")) for m in found.mounts] == [
        ("cache", "/c"), ("bind", "/b"),
    ]  # fmt: skip
    assert found.network == "none" and found.command.args == ("make",)


def test_copy_and_add_take_their_flags() -> None:
    found = first("COPY --from=b --chown=1:2 --chmod=755 --link --parents --exclude=*.o a b/ /c")
    assert isinstance(found, i.Copy)
    assert (found.from_, found.chown, found.chmod) == ("b", "1:2", "755")
    assert found.link and found.parents and found.exclude == ("*.o",)
    assert found.sources == ("a", "b/") and found.target == "/c"
    added = first(f"ADD --checksum=sha256:{'0' * 64} https://x/y /z")
    assert isinstance(added, i.Add) and added.checksum.startswith("sha256:")


def test_env_has_two_forms() -> None:
    new, old = first('ENV a=1 b="two words" c=d\\ e'), first("ENV a some thing")
    assert isinstance(new, i.Env) and isinstance(old, i.Env)
    assert new.pairs == (("a", "1"), ("b", '"two words"'), ("c", "d\\ e"))
    assert old.pairs == (("a", "some thing"),) and old.legacy


def test_healthchecks_have_durations() -> None:
    found = first("HEALTHCHECK --interval=1m30s --timeout=500ms --retries=4 CMD curl x")
    assert isinstance(found, i.Healthcheck)
    assert (found.interval, found.timeout, found.retries) == (90 * 10**9, 5 * 10**8, 4)
    none = first("HEALTHCHECK NONE")
    assert isinstance(none, i.Healthcheck) and none.command is None


def test_stages_are_found_by_name_and_number() -> None:
    file = parse("ARG V=1\nFROM a:$V AS One\nFROM one\nFROM --platform=$BUILDPLATFORM b as two")
    assert file.arguments[0].pairs == (("V", "1"),)
    assert [stage.name for stage in file.stages] == ["one", "1", "two"]
    assert file.stage("ONE") is file.stages[0] and file.stage("1") is file.stages[1]
    assert file.stage("3") is None and file.stages[2].base.platform == "$BUILDPLATFORM"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "is empty"),
        ("RUN x", 1, "before FROM"),
        ("ARG x", 1, "no FROM"),
        ("FROM a b", 1, "takes one argument"),
        ("FROM a AS 1b", 1, "invalid name of a stage"),
        ("FROM a\n\nRUNN x", 3, "did you mean RUN?"),
        ("FROM a\nRUN", 2, "needs an argument"),
        ("FROM a\nRUN --mout=x y", 2, "did you mean mount?"),
        ("FROM a\nRUN --mount=type=disk,target=/x y", 2, "unknown type of mount"),
        ("FROM a\nRUN --mount=type=cache y", 2, "needs a target"),
        ("FROM a\nRUN --network=x y", 2, "unknown network"),
        ("FROM a\nCOPY x", 2, "needs a source and a target"),
        ("FROM a\nCOPY --chmod=999 x y", 2, "not an octal number"),
        ("FROM a\nCOPY --from=a --from=b x y", 2, "there twice"),
        ("FROM a\nCOPY <<E /x\nnever", 2, "has no end"),
        ("FROM a\nENV x", 2, "has no value"),
        ("FROM a\nENV a=b c", 2, "no = in it"),
        ("FROM a\nENV a='b", 2, "has no end"),
        ("FROM a\nARG 1=2", 2, "invalid name"),
        ("FROM a\nSHELL x", 2, "JSON form"),
        ("FROM a\nHEALTHCHECK x", 2, "CMD or NONE"),
        ("FROM a\nHEALTHCHECK --timeout=1y CMD x", 2, "not a duration"),
        ("FROM a\nONBUILD FROM b", 2, "not allowed as a trigger"),
        ("FROM a\nADD --checksum=md5:1 x y", 2, "checksum"),
        ("\n# comment\n", 1, "is empty"),
        ("FROM a AS b c", 1, "takes one argument, or three (FROM IMAGE [AS NAME])"),
        ("FROM", 1, "takes one argument"),
        ("FROM --os=x a", 1, "unknown flag --os (it takes --platform)"),
        ("FROM --platform a", 1, "flag --platform has no value"),
        ("ENV a=b\nFROM a", 1, "ENV before FROM (only ARG may be there)"),
        ("FROM a\nUSER --x y", 2, "unknown flag --x (it takes none)"),
        ("FROM a\nCOPY --link=maybe x y", 2, "flag --link: 'maybe' is neither true nor false"),
        ("FROM a\nRUN --security=x y", 2, "unknown security 'x' (sandbox or insecure)"),
        ("FROM a\nRUN --mount=type=bind,target=/x,sorce=y z", 2, "did you mean source?"),
        ("FROM a\nRUN --mount=type=tmpfs,target=/x,id=y z", 2, "has no option 'id'"),
        ("FROM a\nRUN --mount=type=cache,target=/x,sharing=y z", 2, "unknown sharing 'y'"),
        ("FROM a\nRUN --mount=type=secret", 2, "needs an argument"),
        ("FROM a\nRUN <<A cat <<B\nx\nA\nnever", 2, "here-document 'B': has no end"),
        ("FROM a\nCOPY 'x y", 2, "has no end"),
        ('FROM a\nCOPY ["x"]', 2, "needs a source and a target (COPY SOURCE... TARGET)"),
        ("FROM a\nADD --checksum=sha256:1 x y", 2, "(sha256: and 64 digits)"),
        (f"FROM a\nADD --checksum=sha256:{'0' * 64} x z y", 2, "needs exactly one source"),
        ("FROM a\nADD --from=b x y", 2, "unknown flag --from"),
        ("FROM a\nENV =b", 2, "no name before the ="),
        ("FROM a\nLABEL a", 2, "LABEL: a has no value"),
        ("FROM a\nLABEL", 2, "needs an argument"),
        ("FROM a\nARG", 2, "needs an argument"),
        ("FROM a\nSHELL []", 2, "JSON form"),
        ("FROM a\nVOLUME", 2, "needs a path"),
        ('FROM a\nVOLUME ["/a", ""]', 2, "none that is empty"),
        ("FROM a\nEXPOSE", 2, "needs an argument"),
        ("FROM a\nWORKDIR", 2, "needs an argument"),
        ("FROM a\nUSER", 2, "needs an argument"),
        ("FROM a\nSTOPSIGNAL", 2, "needs an argument"),
        ("FROM a\nMAINTAINER", 2, "needs an argument"),
        ("FROM a\nHEALTHCHECK NONE x", 2, "NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", 2, "needs an argument"),
        ("FROM a\nHEALTHCHECK --retries=few CMD x", 2, "retries 'few': not a number"),
        ("FROM a\nONBUILD", 2, "needs an argument"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, "not allowed as a trigger"),
        ("FROM a\nONBUILD RUN --network=x y", 2, "unknown network"),
        (
            "FROM a\nRUN x \\\n  y\nBUILD z",
            4,
            "unknown instruction 'BUILD' (did you mean ONBUILD?)",
        ),
        ("# escape=x\nFROM a", 1, "escape"),
        ("# escape=\\\n# escape=\\\nFROM a", 2, "is there twice"),
    ],
)
def test_errors_name_file_and_line_and_show_the_text(text: str, line: int, told: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text, "sub/Dockerfile")
    message = caught.value.message
    assert message.startswith(f"sub/Dockerfile:{line}: ")
    assert told in message
    shown = text.split("\n")[line - 1]
    assert f"{line:4} | >>> {shown}".rstrip() in message


VARIABLES = {"x": "value", "e": "", "path": "a/b/c.tar.gz", "ab": "two words"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("$x", "value"), ("${x}y", "valuey"), ("$xy", ""), ("\\$x", "$x"), ("'$x'", "$x"),
        ('"$x"', "value"), ('"\\$x \\" \\a"', '$x " \\a'), ("a\\ b", "a b"), ("$", "$"),
        ("${u:-w}", "w"), ("${e:-w}", "w"), ("${e-w}", ""), ("${u-$x}", "value"),
        ("${x:+w}", "w"), ("${e:+w}", ""), ("${e+w}", "w"), ("${u+w}", ""), ("${x:?no}", "value"),
        ("${path#*/}", "b/c.tar.gz"), ("${path##*/}", "c.tar.gz"), ("${path%.*}", "a/b/c.tar"),
        ("${path%%.*}", "a/b/c"), ("${path#x}", "a/b/c.tar.gz"), ("${path/a/z}", "z/b/c.tar.gz"),
        ("${path//\\//-}", "a-b-c.tar.gz"), ("${path//?./_}", "a/b/_ta_gz"),
        ("${u:-${x:+deep}}", "deep"), ("pre$x-post", "prevalue-post"), ("${u:-a b}", "a b"),
    ],
)  # fmt: skip
def test_variables_have_all_modifiers(text: str, want: str) -> None:
    assert Expansion(VARIABLES).word(text) == want


def test_words_of_an_unquoted_variable_part() -> None:
    assert Expansion(VARIABLES).words("1 $ab \"$ab\" '2 3'") == [
        "1", "two", "words", "two words", "2 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [("${x", "closing brace"), ("${}", "no name"), ("${x!y}", "unsupported modifier"),
     ("${u:?must be given}", "must be given"), ("${e:?}", "must be set"), ("'a", "no end"),
     ('"a', "no end")],
)  # fmt: skip
def test_words_that_cannot_be_say_why(text: str, told: str) -> None:
    with pytest.raises(WordError, match=told):
        Expansion(VARIABLES).word(text)


def test_splitting_keeps_quotes() -> None:
    assert split("a 'b c' d\\ e \"f g\"h") == ["a", "'b c'", "d\\ e", '"f g"h']


@pytest.mark.parametrize(
    ("patterns", "left_out", "kept"),
    [
        ("# c\n\nnode_modules\n", ["node_modules", "node_modules/a/b"], ["x/node_modules", "c"]),
        ("**/node_modules", ["node_modules", "x/y/node_modules/z"], ["node_modules2"]),
        ("*.log", ["a.log"], ["d/a.log", "a.logs"]),
        ("**/*.log", ["a.log", "d/e/a.log"], ["a.lo"]),
        ("/abs/", ["abs", "abs/x"], ["x/abs"]),
        ("*\n!keep\n!dir/in*", ["a", "dir/out"], ["keep", "keep/x", "dir/inner"]),
        ("a\n!a/b\na/b/c", ["a/x", "a/b/c"], ["a/b/d"]),
        ("tem?", ["temp", "temp/x"], ["tempo", "tem/"]),
        ("[a-c].txt", ["b.txt"], ["d.txt"]),
        ("[^a].txt", ["b.txt"], ["a.txt"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["a/zz"]),
        ("./x/../y", ["y"], ["x"]),
        ("*/*/deep", ["a/b/deep"], ["a/deep", "a/b/c/deep"]),
        ("\\*star", ["*star"], ["astar"]),
        ("! spaced\n", [], ["spaced"]),
    ],
)
def test_ignore_patterns(patterns: str, left_out: list[str], kept: list[str]) -> None:
    ignore = read_ignore(patterns)
    assert [path for path in left_out if not ignore.ignored(path)] == []
    assert [path for path in kept if ignore.ignored(path)] == []


def test_an_ignored_directory_is_walked_only_where_something_can_come_back() -> None:
    ignore = read_ignore("a\nb\nc\n!b/x")
    assert ignore.prunable("a") and not ignore.prunable("b")
    assert not read_ignore("a\n!**/x").prunable("a")


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("FROM a AS Build", ["StageNameCasing"]),
        ("FROM a as b", ["FromAsCasing"]),
        ("FROM a\nRUN b \\\n\n && c", ["NoEmptyContinuation"]),
        ("FROM a\nRUN b\nrun c", ["ConsistentInstructionCasing"]),
        ("FROM a AS b\nFROM c AS b", ["DuplicateStageName"]),
        ("FROM a AS scratch", ["ReservedStageName"]),
        ("FROM a\nCMD b", ["JSONArgsRecommended"]),
        ('FROM a\nSHELL ["/bin/bash", "-c"]\nCMD b', []),
        ("FROM a\nMAINTAINER b", ["MaintainerDeprecated"]),
        ("ARG V=1\nFROM a:$W", ["UndefinedArgInFrom"]),
        ("FROM a\nWORKDIR b", ["WorkdirRelativePath"]),
        ("FROM a\nWORKDIR /a\nWORKDIR b", []),
        ("FROM scratch\nCOPY $what /", ["UndefinedVar"]),
        ("FROM scratch\nARG what\nCOPY $what /", []),
        ("FROM a\nARG version\nLABEL v=1\nWORKDIR /$versoin", ["UndefinedVar"]),
        ('FROM a\nCMD ["a"]\nCMD ["b"]', ["MultipleInstructionsDisallowed"]),
        ("FROM a\nENV b c", ["LegacyKeyValueFormat"]),
        ("FROM --platform=$TARGETPLATFORM a", ["RedundantTargetPlatform"]),
        ("FROM a\nENV API_TOKEN=x PUBLIC_KEY=y", ["SecretsUsedInArgOrEnv"]),
        ("ARG V\nFROM a:$V", ["InvalidDefaultArgInFrom"]),
        ("FROM --platform=linux/amd64 a", ["FromPlatformFlagConstDisallowed"]),
        ("FROM a\nCOPY skipped /", ["CopyIgnoredFile"]),
        ("FROM a\nEXPOSE 80/TCP", ["ExposeProtoCasing"]),
        ("FROM a\nEXPOSE web", ["ExposeInvalidFormat"]),
        ("# check=skip=ExposeInvalidFormat\nFROM a\nEXPOSE web", []),
        ("# check=skip=all\nFROM a AS B\nMAINTAINER x", []),
        (
            "# check=experimental=all\n# b is built\nFROM a AS b\n# what\nFROM a AS c",
            ["InvalidDefinitionDescription"],
        ),
    ],
)
def test_lint_rules(text: str, rules: list[str]) -> None:
    assert [found.rule for found in lint(parse(text), read_ignore("skipped"))] == rules


def test_warnings_are_errors_where_that_is_asked_for() -> None:
    file = parse("# check=skip=StageNameCasing;error=true\nFROM a AS B\nMAINTAINER x")
    assert [found.rule for found in lint(file)] == ["MaintainerDeprecated"]
    assert errors_wanted(file, {})
    given = {"BUILDKIT_DOCKERFILE_CHECK": "skip=MaintainerDeprecated"}
    assert [found.rule for found in lint(file, None, given)] == ["StageNameCasing"]
    assert not errors_wanted(file, given) and not errors_wanted(parse("FROM a"), {})
