"""Names for containers that nobody named."""

from __future__ import annotations

import re
import secrets

from cored.errors import InvalidArgument

__all__ = ["check", "made_up", "new_id"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_FIRST = """
amber blue brave bright calm clever coral crisp eager early fair fancy fleet fond fresh gentle
golden happy jolly keen kind lively lucky merry mild mint neat nimble olive patient plain proud
quick quiet rapid rosy royal ruby silent silver simple sleek smart snowy solid spry steady sunny
swift tidy tiny vivid warm wise witty young
"""
_SECOND = """
badger beaver bison crane deer dolphin eagle falcon ferret finch fox gecko hare hawk heron ibis
jay kestrel kiwi koala lark lemur lion lynx marten mole moose newt otter owl panda parrot pelican
puffin quail rabbit raven robin salmon seal shrew sparrow squid stork swan tapir tern tiger toad
trout turtle viper walrus weasel whale wolf wombat wren yak zebra
"""


def check(name: str) -> str:
    """The name itself. InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"container name {name!r}: invalid", hint="[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128"
        )
    return name


def made_up() -> str:
    """Two words."""
    return f"{secrets.choice(_FIRST.split())}_{secrets.choice(_SECOND.split())}"


def new_id() -> str:
    """A container id: 64 hex digits, as docker's."""
    return secrets.token_hex(32)
