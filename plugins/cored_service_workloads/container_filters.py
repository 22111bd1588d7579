"""docker's filters of ``ps``: keys must all fit, values of a key one of them (labels: all)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cored.engine.containers import Containers
from cored.engine.workload import NAME, ContainerView
from cored.errors import InvalidArgument, NotFound
from cored.oci.reference import parse

__all__ = ["Filters"]

_KEYS = (
    "id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume",
    "network", "health", "publish", "expose", "is-task",
)  # fmt: skip
_STATUS = {"exited": "stopped", "dead": "dead", "removing": "removing"}
_STATUSES = ("created", "running", "paused", "restarting", *_STATUS)
# a status, or an exit code, says whom to look at
_EVERYONE = ("status", "exited")


class Filters:
    """``key=value`` as clients send them. InvalidArgument."""

    def __init__(self, given: Sequence[str]) -> None:
        self._wanted: dict[str, list[str]] = {}
        for text in given:
            key, equals, value = text.partition("=")
            known = key in _KEYS and equals and (key != "status" or value in _STATUSES)
            if not known:
                raise InvalidArgument(f"filter {text!r}: unknown", hint=", ".join(_KEYS))
            self._wanted.setdefault(key, []).append(value)

    @property
    def everyone(self) -> bool:
        """Whether those that do not run are asked for, too."""
        return any(key in self._wanted for key in _EVERYONE)

    async def passing(
        self, views: Sequence[ContainerView], containers: Containers
    ) -> list[ContainerView]:
        """Those that fit. NotFound for a container to compare with that is not there."""
        bounds = {}
        for key in ("before", "since"):
            for name in self._wanted.get(key, ()):
                bounds[name] = (await containers.find(name)).created_at
        return [view for view in views if all(self._fits(view, k, bounds) for k in self._wanted)]

    def _fits(self, view: ContainerView, key: str, bounds: dict[str, int]) -> bool:
        values = self._wanted[key]
        if key == "label":
            return all(_labelled(view, value) for value in values)
        return any(_one(view, key, value, bounds) for value in values)


def _labelled(view: ContainerView, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    labels = view.record.labels
    return name in labels and name != NAME and (not equals or labels[name] == value)


def _one(view: ContainerView, key: str, value: str, bounds: dict[str, int]) -> bool:
    match key:
        case "id":
            return view.record.id.startswith(value)
        case "name":
            return _matches(value, view.name) or _matches(value, f"/{view.name}")
        case "exited":
            return view.status == "stopped" and str(view.state.exit_status) == value
        case "status":
            return view.status == _STATUS.get(value, value)
        case "ancestor":
            return _image(view, value)
        case "before":
            return view.record.created_at < bounds[value]
        case "since":
            return view.record.created_at > bounds[value]
        case "volume":
            places = {one.target for one in view.config.volumes}
            places |= {one.name for one in view.config.volumes}
            places |= {path for one in view.config.mounts for path in (one.source, one.target)}
            return value in places
        case "network":
            named = {one.network for one in view.config.endpoints}
            named |= {one.network for one in view.connections}
            return value in named | {view.config.network or "bridge"}
        case "health":
            return value == (view.health.status if view.health else "none")
        case "publish":
            return any(_port(value, one.host, one.protocol) for one in view.config.ports)
        case "expose":
            return any(_port(value, one.container, one.protocol) for one in view.config.ports)
        case _:
            return value in ("false", "0")


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise InvalidArgument(f"filter name={pattern!r}: {error}") from error


def _image(view: ContainerView, value: str) -> bool:
    try:
        return view.record.image in (value, str(parse(value)))
    except (InvalidArgument, NotFound):
        return False


def _port(wanted: str, number: int, protocol: str) -> bool:
    ports, _, kind = wanted.partition("/")
    first, _, last = ports.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise InvalidArgument(f"filter port {wanted!r}: not understood")
    return int(first) <= number <= int(last or first) and (kind or "tcp") == (protocol or "tcp")
