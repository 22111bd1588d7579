"""What commit and import may change of an image's configuration (docker's ``--change``)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["Edit", "parse"]

Edit = Callable[[dict[str, Any]], None]
"""Changes an image's ``config`` in place."""


def parse(line: str) -> Edit:
    """One instruction of a Dockerfile as a change of an image's ``config``. InvalidArgument."""
    word, _, rest = line.strip().partition(" ")
    name, rest = word.upper(), rest.strip()
    if name not in _INSTRUCTIONS or not rest:
        raise InvalidArgument(
            f"change {line!r}: not understood", hint=f"there is {' '.join(sorted(_INSTRUCTIONS))}"
        )
    return lambda config: _INSTRUCTIONS[name](config, rest)


def _words(text: str) -> list[str]:
    """A list in JSON, or a line for the shell."""
    if text.startswith("["):
        try:
            return [str(word) for word in json.loads(text)]
        except ValueError as error:
            raise InvalidArgument(f"change: {text!r} is no JSON list") from error
    return ["/bin/sh", "-c", text]


def _pairs(text: str) -> dict[str, str]:
    """``A=1 B="2 3"``, or the old ``A 1``."""
    if "=" not in text.split(None, 1)[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    return dict(word.partition("=")[::2] for word in shlex.split(text))


def _set(key: str, convert: Callable[[str], Any] = str) -> Callable[[dict[str, Any], str], None]:
    def change(config: dict[str, Any], text: str) -> None:
        config[key] = convert(text)

    return change


def _env(config: dict[str, Any], text: str) -> None:
    values = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    config["Env"] = [f"{name}={value}" for name, value in {**values, **_pairs(text)}.items()]


def _label(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(text)}


def _expose(config: dict[str, Any], text: str) -> None:
    ports: dict[str, object] = {word if "/" in word else f"{word}/tcp": {} for word in text.split()}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volume(config: dict[str, Any], text: str) -> None:
    paths = _words(text) if text.startswith("[") else text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _onbuild(config: dict[str, Any], text: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or ()), text]


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _set("Cmd", _words),
    "ENTRYPOINT": _set("Entrypoint", _words),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _set("StopSignal"),
    "USER": _set("User"),
    "VOLUME": _volume,
    "WORKDIR": _set("WorkingDir"),
}
