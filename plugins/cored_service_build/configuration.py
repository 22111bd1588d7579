"""The instructions that change an image's config and no file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from cored.errors import InvalidArgument
from cored_service_build.dockerfile import instructions as i
from cored_service_build.state import StageState

__all__ = ["configure", "working_directory"]

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
Expand = Callable[[str], str]
Split = Callable[[str], list[str]]


def configure(state: StageState, entry: i.Instruction, expand: Expand, split: Split) -> str | None:
    """Apply an instruction; the text for the history. None for one that is not of this kind.

    InvalidArgument.
    """
    config = state.config
    match entry:
        case i.Label():
            pairs = {expand(name): expand(value) for name, value in entry.pairs}
            config["Labels"] = {**(config.get("Labels") or {}), **pairs}
            return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs.items())
        case i.Env():
            # all see the values from before the instruction
            values = {name: expand(value) for name, value in entry.pairs}
            for name, value in values.items():
                state.set_env(name, value)
            return "ENV " + " ".join(f"{name}={value}" for name, value in values.items())
        case i.Maintainer():
            state.document["author"] = expand(entry.name)
            return entry.text
        case i.Entrypoint():
            config["Entrypoint"] = _command(state, entry.command)
            if not state.own_cmd:  # what the base image has is for its own entrypoint
                config.pop("Cmd", None)
            return f"ENTRYPOINT {_shown(config['Entrypoint'])}"
        case i.Cmd():
            config["Cmd"] = _command(state, entry.command)
            state.own_cmd = True
            return f"CMD {_shown(config['Cmd'])}"
        case i.Expose():
            ports = _ports([word for text in entry.ports for word in split(text)])
            config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}
            return "EXPOSE " + " ".join(ports)
        case i.Volume():
            paths: dict[str, dict[str, str]] = {
                posixpath.join(state.directory, expand(path)): {} for path in entry.paths
            }
            config["Volumes"] = {**(config.get("Volumes") or {}), **paths}
            return f"VOLUME {_shown(list(paths))}"
        case i.User():
            config["User"] = expand(entry.user)
            return f"USER {config['User']}"
        case i.Stopsignal():
            config["StopSignal"] = expand(entry.signal)
            return f"STOPSIGNAL {config['StopSignal']}"
        case i.Shell():
            state.shell = entry.args
            config["Shell"] = list(entry.args)
            return f"SHELL {_shown(list(entry.args))}"
        case i.Healthcheck():
            config["Healthcheck"] = _healthcheck(entry)
            return entry.text
        case i.Onbuild():
            config["OnBuild"] = [*(config.get("OnBuild") or ()), entry.trigger]
            return entry.text
        case _:
            return None


def working_directory(state: StageState, path: str) -> str:
    """Where WORKDIR leads: absolute, or from where it was."""
    found = posixpath.normpath(posixpath.join("/", state.directory, path))
    return "/" + found.lstrip("/")


def _command(state: StageState, command: i.Command) -> list[str]:
    return [*state.shell, *command.args] if command.shell else list(command.args)


def _shown(words: list[str]) -> str:
    return "[" + " ".join(f'"{word}"' for word in words) + "]"


def _ports(words: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for word in words:
        match = _PORT.fullmatch(word)
        if match is None or int(match[2] or match[1]) > 65535 or int(match[1]) < 1:
            raise InvalidArgument(f"EXPOSE {word!r}: invalid", hint="80, 8000-8010/udp")
        for port in range(int(match[1]), int(match[2] or match[1]) + 1):
            found[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    return dict(sorted(found.items()))


def _healthcheck(entry: i.Healthcheck) -> dict[str, object]:
    if entry.command is None:
        return {"Test": ["NONE"]}
    kind = "CMD-SHELL" if entry.command.shell else "CMD"
    found: dict[str, object] = {"Test": [kind, *entry.command.args]}
    for name, value in (
        ("Interval", entry.interval), ("Timeout", entry.timeout),
        ("StartPeriod", entry.start_period), ("StartInterval", entry.start_interval),
        ("Retries", entry.retries),
    ):  # fmt: skip
        if value:
            found[name] = value
    return found
