"""CNI plugins that are scripts: they note how they are called, and answer what they are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Noted", "Plugins"]

_SCRIPT = """#!/bin/sh
place={place}
number=$(ls "$place/calls" | wc -l)
noted=$place/calls/$(printf %04d "$number")
echo $$ >"$place/running"
{{ printf '%s\\n' "$(basename "$0")"; env | grep ^CNI_ | sort; echo; cat; }} >"$place/noting"
mv "$place/noting" "$noted"
answer=$place/answers/$(basename "$0").$CNI_COMMAND
[ -e "$answer.wait" ] && exec sleep 100
[ -e "$answer.said" ] && cat "$answer.said" >&2
[ -e "$answer" ] && cat "$answer"
[ -e "$answer.code" ] && exit "$(cat "$answer.code")"
exit 0
"""


@dataclass(frozen=True)
class Noted:
    """One call: the plugin's type, its environment without CNI_, its configuration."""

    type: str
    environment: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def command(self) -> str:
        return self.environment["COMMAND"]


class Plugins:
    """Plugins of the types ``names`` in the directory ``place/bin``."""

    def __init__(self, place: Path, *names: str) -> None:
        self._place = place
        self.path = str(place / "bin")
        for part in ("bin", "calls", "answers"):
            (place / part).mkdir(parents=True)
        for name in names:
            script = place / "bin" / name
            script.write_text(_SCRIPT.format(place=place))
            script.chmod(0o755)

    def answer(self, type: str, command: str, answer: Any, code: int = 0, said: str = "") -> None:
        """What a plugin is to answer from now on: an object as JSON, or text as it is."""
        place = self._place / "answers" / f"{type}.{command}"
        place.write_text(answer if isinstance(answer, str) else json.dumps(answer))
        Path(f"{place}.code").write_text(str(code))
        Path(f"{place}.said").write_text(said)

    def hang(self, type: str, command: str) -> None:
        """Let a plugin answer nothing for ever."""
        (self._place / "answers" / f"{type}.{command}.wait").touch()

    def hanging(self) -> int:
        """The process of the plugin that was called last, and hangs."""
        return int((self._place / "running").read_text())

    def calls(self) -> list[Noted]:
        """All calls so far, in order."""
        return [_noted(path.read_text()) for path in sorted((self._place / "calls").iterdir())]

    def order(self) -> list[str]:
        """The calls as ``COMMAND type``, forgotten with this."""
        found = [f"{one.command} {one.type}" for one in self.calls()]
        for path in (self._place / "calls").iterdir():
            path.unlink()
        return found


def _noted(text: str) -> Noted:
    head, _, config = text.partition("\n\n")
    type, *lines = head.splitlines()
    pairs = [line.removeprefix("CNI_").partition("=") for line in lines]
    return Noted(type, {key: value for key, _, value in pairs}, json.loads(config or "{}"))
