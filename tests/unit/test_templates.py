"""Go's templates in --format: what docker's users write, and what they are told of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from corectl import output
from corectl.templates import Template

from cored.errors import InvalidArgument

IMAGE = {
    "Repository": "debian",
    "Tag": "bookworm",
    "Size": 3,
    "Labels": {"b": "2", "a": "1"},
    "Layers": ["x", "y"],
    "Nothing": None,
    "Empty": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Repository}}:{{.Tag}}", "debian:bookworm"),
        ("{{ .Labels.a }} {{.Labels.none}}", "1 <no value>"),
        ("{{json .Labels}}", '{"b":"2","a":"1"}'),
        ("{{.Labels}} {{.Layers}}", "map[a:1 b:2] [x y]"),
        ("{{upper .Tag}} {{lower `AB`}} {{title .Tag}}", "BOOKWORM ab Bookworm"),
        ("{{truncate .Repository 3}} {{pad .Tag 1 2}}|", "deb  bookworm  |"),
        ('{{join .Layers ","}} {{join (split "a-b" "-") "+"}}', "x,y a+b"),
        ('{{.Tag | printf "%-10s|%q" .Repository}}', 'debian    |"bookworm"'),
        ('{{printf "%d %5.1f %v %%" 3 1.25 true}}', "3   1.2 true %"),
        ('{{index .Labels "a"}} {{index .Layers 1}} {{len .Layers}}', "1 y 2"),
        ("{{range .Layers}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $n, $l := .Layers}}{{$n}}={{$l}} {{end}}", "0=x 1=y "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Layers}}{{$.Tag}}{{end}}", "bookwormbookworm"),
        ("{{if .Nothing}}a{{else if eq .Size 3}}b{{else}}c{{end}}", "b"),
        ('{{if and .Tag (not .Empty)}}yes{{end}}{{if or .Nothing ""}}no{{end}}', "yes"),
        ("{{with .Labels}}{{.b}}{{end}}", "2"),
        ("{{$x := .Tag}}{{$x}}", "bookworm"),
        ("{{(index .Layers 0)}} {{println .Tag}}", "x bookworm\n"),
        ("a  {{- .Tag -}}  b{{/* nothing */}}", "abookwormb"),
        ('{{"}}"}}{{`"`}}', '}}"'),
        ("{{eq .Tag `x` `bookworm`}} {{ne .Size 3}} {{lt .Size 4}}", "true false true"),
        ("{{slice .Repository 0 3}}", "deb"),
    ],
)
def test_templates_mean_what_they_mean_in_go(template: str, text: str) -> None:
    assert Template(template).render(IMAGE) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Repositry}}", "no field Repositry"),
        ("{{.Tag.x}}", "no field x"),
        ("{{nothing .Tag}}", "no function 'nothing'"),
        ("{{.Tag", "not closed"),
        ("{{if .Tag}}x", "if without end"),
        ("{{end}}", "nothing is open"),
        ("{{.Tag | .Size}}", "only functions"),
        ("{{(.Tag}}", "not closed"),
        ("{{$y}}", "no variable $y"),
        ("{{range .Size}}{{end}}", "cannot go through 3"),
        ("{{index .Layers 9}}", "index"),
        ("{{truncate}}", "truncate"),
        ("{{.Tag !}}", "makes no sense"),
        ('{{"a}}', "not closed"),
    ],
)
def test_mistakes_are_said(template: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Template(template).render(IMAGE)
    assert words in str(caught.value)


def listed(capsys: pytest.CaptureFixture[str], form: str) -> list[str]:
    rows: list[dict[str, Any]] = [
        {"ID": "1", "Name": "longer", "Labels": {"a": "b"}},
        {"ID": "22", "Name": "x", "Labels": {}},
    ]
    output.listing(form, {"ID": "THING ID", "Name": "NAME"}, rows, headings={"Labels": "LABELS"})
    return capsys.readouterr().out.splitlines()


def test_a_listing_is_a_table_of_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "") == ["THING ID   NAME", "1          longer", "22         x"]
    assert listed(capsys, "table") == listed(capsys, "")


def test_json_is_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "json")[1] == '{"ID":"22","Name":"x","Labels":{}}'


def test_a_table_can_have_columns_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, r"table {{.Name | upper}}\t{{json .Labels}}\t{{.ID}}") == [
        "NAME     LABELS      THING ID",
        'LONGER   {"a":"b"}   1',
        "X        {}          22",
    ]


def test_tabs_and_lines_may_be_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, r"{{.ID}}\t{{.Name}}") == ["1\tlonger", "22\tx"]
