"""Flags with a value, as Go programs take them."""

from __future__ import annotations

import click
import pytest
from corectl.truths import spelled


def command(*, stops: bool = False) -> click.Command:
    @click.command(context_settings={"allow_interspersed_args": not stops})
    @click.option("-r", "--rm", is_flag=True)
    @click.option("-i", "--interactive", is_flag=True)
    @click.option("--sig-proxy/--no-sig-proxy", default=True)
    @click.option("-e", "--env", multiple=True)
    @click.argument("words", nargs=-1)
    def made(**options: object) -> None:
        raise AssertionError(options)

    return made


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--rm=true x", "--rm x"),
        ("--rm=false x", "x"),
        ("-r=1 -i=F x", "--rm x"),
        ("-ri=false x", "-r x"),
        ("-ir=true x", "-i --rm x"),
        ("-ei=false x", "-ei=false x"),
        ("--sig-proxy=false x", "--no-sig-proxy x"),
        ("--no-sig-proxy=0 x", "--sig-proxy x"),
        ("--rm=maybe x", "--rm=maybe x"),
        ("--env --rm=false x", "--env --rm=false x"),
        ("-ie --rm=false --rm=false x", "-ie --rm=false x"),
        ("-eA=1 --env=B=true x", "-eA=1 --env=B=true x"),
        ("-- --rm=false", "-- --rm=false"),
        ("--unknown=true x", "--unknown=true x"),
    ],
)
def test_truths_are_spelled_out(given: str, meant: str) -> None:
    assert spelled(command(), given.split()) == meant.split()


def test_what_is_behind_the_image_is_left_alone() -> None:
    words = "--rm=false image --rm=false"
    assert spelled(command(stops=True), words.split()) == ["image", "--rm=false"]
    assert spelled(command(), words.split()) == ["image"]
