"""Where containers' output goes: what was asked for as the URIs that shims write to.

The shim writes (``coreshim.logged``), or for a plugin's driver a process beside it
(``cored_runtime_shim.driver_host``); the daemon need not be there. What goes elsewhere is also kept
here, in rotated files, for ``logs``: docker calls that dual logging.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlencode

from cored import scope
from cored.abc.logs import LogDriver
from cored.abc.records import Container
from cored.abc.runtime import Stdio
from cored.config import LoggingConfig
from cored.engine.logoptions import BUILT_IN, COMMON, FACILITIES, check
from cored.engine.workload import NAME, ContainerConfig, Logging, decoded
from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["LogDrivers", "PluggedDriver"]

_DEFAULT = "json-file"
# docker's, for local and for what is kept beside other drivers
_KEPT = {"max-size": "20m", "max-file": "5", "compress": "true"}
_ROTATION = ("max-size", "max-file", "compress")
_FLOW = ("mode", "max-buffer-size")
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_BUFFER = "1m"


@dataclass(frozen=True, slots=True)
class PluggedDriver:
    """A plugin's; ``module`` is where its hook is, ``context`` what it is opened with elsewhere."""

    driver: LogDriver
    module: str
    context: Mapping[str, object]


class LogDrivers:
    """``plugged`` by the names that requests have for them."""

    def __init__(self, config: LoggingConfig, plugged: Mapping[str, PluggedDriver]) -> None:
        self._config = config
        self._plugged = plugged

    def settled(self, wanted: Logging) -> Logging:
        """With the configuration's driver and options where none are given. InvalidArgument."""
        usual = self._config.driver or _DEFAULT
        driver, options = wanted.driver or usual, dict(wanted.options)
        if driver == usual:
            options = {**self._config.options, **options}
        if driver in BUILT_IN:
            check(driver, options, BUILT_IN[driver])
        elif driver in self._plugged:
            common = {k: v for k, v in options.items() if k in COMMON}
            check(driver, common, COMMON)
            own = {k: v for k, v in options.items() if k not in COMMON}
            self._plugged[driver].driver.check(own)
        else:
            there = ", ".join([*BUILT_IN, *sorted(self._plugged)])
            raise InvalidArgument(f"log driver {driver!r}: unknown", hint=f"there is {there}")
        _check_tag(options.get("tag", ""))
        return replace(wanted, driver=driver, options=options)

    def stdio(self, record: Container, place: Path, fifos: Stdio) -> Stdio:
        """A task's streams: its log, with a copy to whoever is attached through FIFOs."""
        config, _ = decoded(record)
        return Stdio(
            fifos.stdin,
            self._uri(record, config, place, fifos.stdout),
            "" if config.terminal else self._uri(record, config, place, fifos.stderr),
            config.terminal,
        )

    def attributes(self, record: Container) -> dict[str, str]:
        """What ``labels``, ``env`` and their like say that goes with each line."""
        config, _ = decoded(record)
        options = config.logging.options
        labels = {k: v for k, v in record.labels.items() if k != NAME}
        found = _chosen(labels, options.get("labels", ""), options.get("labels-regex", ""))
        if "env" in options or "env-regex" in options:
            spec = json.loads(record.spec.value) if record.spec is not None else {}
            pairs = (spec.get("process") or {}).get("env") or config.env
            env = dict(entry.partition("=")[::2] for entry in pairs)
            found |= _chosen(env, options.get("env", ""), options.get("env-regex", ""))
        if options.get("tag"):
            found["tag"] = _tag(record, config)
        return found

    def file(self, record: Container, place: Path) -> Path | None:
        """Where its output is kept here; None for nowhere."""
        logging = decoded(record)[0].logging
        match logging.driver:
            case "none":
                return None
            case "" | "json-file":
                return place / "log.json"
            case "local":
                return place / "log.local"
            case _:
                disabled = logging.options.get("cache-disabled") == "true"
                return None if disabled else place / "log.cache"

    def readable(self, record: Container, place: Path, name: str) -> Path:
        """The same. FailedPrecondition, with the reason, for nowhere."""
        found = self.file(record, place)
        if found is not None:
            return found
        logging = decoded(record)[0].logging
        where = logging.options.get("syslog-address", "")
        raise FailedPrecondition(
            f"container {name!r}: keeps no log here",
            hint="its log driver is none"
            if logging.driver == "none"
            else f"its log driver {logging.driver} sends it{f' to {where}' if where else ' away'}"
            " and cache-disabled is set",
        )

    def _uri(self, record: Container, config: ContainerConfig, place: Path, fifo: str) -> str:
        options = dict(config.logging.options)
        copy = {"copy": fifo} if fifo else {}
        driver = config.logging.driver or _DEFAULT
        if driver == "none":
            return _joined("none", "", copy) if fifo else ""
        path = str(self.file(record, place) or "")
        files = {name: options[name] for name in _ROTATION if name in options}
        if driver == "json-file":
            attributes = self.attributes(record)
            more = {"attrs": json.dumps(attributes)} if attributes else {}
            return _joined(driver, path, {**files, **more, **copy})
        if driver == "local":
            return _joined(driver, path, {**_KEPT, **files, **copy})
        files = {name: options.get(f"cache-{name}", _KEPT[name]) for name in _ROTATION}
        flow = {name: options[name] for name in _FLOW if name in options}
        if flow.get("mode") == "non-blocking":
            flow["max-buffer-size"] = str(_bytes(options.get("max-buffer-size", _BUFFER)))
        shared = {**files, **flow, **copy}
        if driver == "journald":
            return _joined(driver, path, {**shared, **self._journal(record, config)})
        if driver == "syslog":
            return _joined(driver, path, {**shared, **_syslog(record, config)})
        return _joined("plugin", path, {**shared, **self._plugin(driver, record, config)})

    def _journal(self, record: Container, config: ContainerConfig) -> dict[str, str]:
        tag = _tag(record, config)
        fields = {_journal_name(name): value for name, value in self.attributes(record).items()} | {
            "CONTAINER_ID": record.id[:12],
            "CONTAINER_ID_FULL": record.id,
            "CONTAINER_NAME": record.labels.get(NAME, ""),
            "CONTAINER_TAG": tag,
            "IMAGE_NAME": config.image,
            "SYSLOG_IDENTIFIER": tag,
        }
        fields.pop("", None)
        return {"fields": json.dumps(fields), "socket": self._config.journal}

    def _plugin(self, driver: str, record: Container, config: ContainerConfig) -> dict[str, str]:
        if driver not in self._plugged:
            raise FailedPrecondition(
                f"log driver {driver!r}: is not there any more", hint="see: corectl plugins"
            )
        plugged = self._plugged[driver]
        source = {
            "id": record.id,
            "name": record.labels.get(NAME, ""),
            "namespace": scope.namespace(),
            "image": config.image,
            "tag": _tag(record, config),
            "attributes": self.attributes(record),
        }
        own = {k: v for k, v in config.logging.options.items() if k not in COMMON}
        return {
            "driver": driver,
            "module": plugged.module,
            "context": json.dumps(dict(plugged.context)),
            "source": json.dumps(source),
            "options": json.dumps(own),
        }


def _syslog(record: Container, config: ContainerConfig) -> dict[str, str]:
    given = config.logging.options
    found = {"tag": _tag(record, config)}
    for name in ("address", "format", "tls-ca-cert", "tls-cert", "tls-key", "tls-skip-verify"):
        if value := given.get(f"syslog-{name}"):
            found[name] = value
    facility = given.get("syslog-facility") or "daemon"
    found["facility"] = facility if facility.isdecimal() else str(FACILITIES.index(facility))
    return found


def _joined(scheme: str, path: str, options: Mapping[str, str]) -> str:
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"{scheme}://{quote(path)}{query}"


def _chosen(values: Mapping[str, str], names: str, pattern: str) -> dict[str, str]:
    wanted = {name.strip() for name in names.split(",")}
    return {
        name: value
        for name, value in values.items()
        if name in wanted or (pattern and re.search(pattern, name))
    }


def _journal_name(name: str) -> str:
    """What the journal takes for a field: capitals, digits, and _ not first."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_")


def _fields(record: Container, config: ContainerConfig) -> dict[str, str]:
    return {
        "ID": record.id[:12],
        "FullID": record.id,
        "Name": record.labels.get(NAME, ""),
        "ImageName": config.image,
        "ImageFullName": record.image,
        "DaemonName": "cored",
    }


def _tag(record: Container, config: ContainerConfig) -> str:
    template = config.logging.options.get("tag") or "{{.ID}}"
    fields = _fields(record, config)
    return _FIELD.sub(lambda found: fields[found[1]], template)


def _check_tag(template: str) -> None:
    known = _fields(Container(""), ContainerConfig(""))
    unknown = [name for name in _FIELD.findall(template) if name not in known]
    if unknown or "{{" in _FIELD.sub("", template):
        there = " ".join(f"{{{{.{name}}}}}" for name in known)
        raise InvalidArgument(f"log option {template!r}: tag knows {there}")


def _bytes(text: str) -> int:
    """A size that has been checked."""
    found = re.match(r"(\d+)([bkmg]?)", text, re.IGNORECASE)
    assert found is not None
    return int(found[1]) * _UNITS[found[2].lower()]
