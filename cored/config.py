"""The daemon's configuration: frozen dataclasses from TOML, flags on top.

Plugins' tables ``[plugins.<kind>.<id>]`` are handed over untouched; unknown keys elsewhere are
errors, so that a misspelt one is seen.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Any

from cored.dataclass import dataclass
from cored.endpoints import Tcp, parsed
from cored.errors import InvalidArgument, NotFound

__all__ = ["DEFAULT_PATH", "Config", "GrpcConfig", "ProxyConfig", "TcpConfig", "dump", "load"]

DEFAULT_PATH = Path("/etc/cored/config.toml")
LEVELS = ("debug", "info", "warning", "error")
PROXY_TYPES = ("snapshot", "content", "diff", "sandbox")


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """The gRPC server: who may use the socket, and how large a message may be (bytes)."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o660
    max_message_size: int = 16 << 20
    shutdown_grace: float = 10.0


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """Where the daemon listens on the network: ``address`` is tcp://host:port; '' is nowhere.

    ``ca`` is the authority that signs the certificates of clients, each of whom is root here;
    ``certificate`` and ``key`` are ours: paths of PEM files.
    """

    address: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """Registries: ``timeout`` is the seconds to wait for any next byte, ``attempts`` how often
    something is tried that brings nothing, ``connections`` the most that one large blob is fetched
    over where a single one is slow."""

    timeout: float = 60.0
    attempts: int = 5
    connections: int = 4


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """Output of containers: ``driver`` and ``options`` where they name none; ``journal`` is the
    socket that the driver journald writes to."""

    driver: str = "json-file"
    options: Mapping[str, str] = field(default_factory=dict)
    journal: str = "/run/systemd/journal/socket"


@dataclass(frozen=True, slots=True)
class GcConfig:
    """Garbage collection, in containerd's terms: after so many deletions; delays in seconds."""

    startup_delay: float = 0.1
    schedule_delay: float = 0.2
    deletion_threshold: int = 1
    mutation_threshold: int = 100
    pause_threshold: float = 0.02


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """A part of another daemon that is to be used as ours (containerd's ``proxy_plugins``).

    ``type`` is snapshot, content, diff or sandbox, ``address`` the socket that serves it, ``name``
    what it is called there (the proxy's own name if empty). A peer that is a whole daemon, with
    garbage collection of its own, needs one ``namespace`` for all we keep there, and a ``lease``,
    which is made for it.
    """

    type: str = ""
    address: str = ""
    name: str = ""
    platform: str = ""
    capabilities: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    lease: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """All that the daemon itself reads."""

    address: str = "/run/cored/cored.sock"
    root: Path = Path("/var/lib/cored")
    state: Path = Path("/run/cored")
    log_level: str = "info"
    content_store: str = "local"
    snapshotter: str = "overlayfs"
    runtime: str = "shim"
    network: str = "native"
    network_config_dirs: tuple[str, ...] = ("/etc/cni/net.d",)
    disabled_plugins: tuple[str, ...] = ()
    unpack_workers: int = 1
    registry_config_dirs: tuple[str, ...] = (
        "/etc/cored/certs.d",
        "/etc/containerd/certs.d",
        "/etc/docker/certs.d",
    )
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    tcp: TcpConfig = field(default_factory=TcpConfig)
    gc: GcConfig = field(default_factory=GcConfig)
    plugins: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    proxy_plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def opt(self) -> Path:
        """Where clients install binaries out of images; its ``bin`` is on the daemon's PATH."""
        return self.root / "opt"

    def for_plugin(self, kind: str, id: str) -> Mapping[str, Any]:
        """The table of one plugin, empty if there is none."""
        return self.plugins.get(kind, {}).get(id, {})

    def proxies(self) -> Mapping[str, ProxyConfig]:
        """``[proxy_plugins.*]``, checked. InvalidArgument."""
        return {name: _proxy(name, table) for name, table in self.proxy_plugins.items()}


def load(path: Path | None) -> Config:
    """Read ``path``; None means the default file, which need not exist."""
    wanted = path or DEFAULT_PATH
    try:
        text = wanted.read_text()
    except FileNotFoundError as error:
        if path is None:
            return Config()
        raise NotFound(
            f"config file {wanted}: not found", hint="make one: cored config default > FILE"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"config file {wanted}: cannot be read: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"config file {wanted}: {error}") from error
    built: Config = _build(Config, table, str(wanted), "")
    return built


def _proxy(name: str, table: Mapping[str, Any]) -> ProxyConfig:
    where = f"proxy_plugins.{name}"
    if not isinstance(table, dict):
        raise InvalidArgument(f"config: {where!r} must be a table")
    proxy: ProxyConfig = _build(ProxyConfig, table, "", f"{where}.")
    if proxy.type not in PROXY_TYPES:
        raise InvalidArgument(
            f"config: {where}.type {proxy.type!r}: unknown", hint=f"one of {', '.join(PROXY_TYPES)}"
        )
    if not proxy.address.removeprefix("unix://").startswith("/"):
        raise InvalidArgument(f"config: {where}.address must be an absolute socket path")
    if proxy.lease and not proxy.namespace:
        raise InvalidArgument(f"config: {where}.lease needs a namespace to be in")
    return proxy


def _build(cls: type[Any], table: Mapping[str, Any], source: str, where: str) -> Any:
    known = {f.name: f for f in fields(cls)}
    default = cls()
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{where}{key}"
        if key not in known:
            raise InvalidArgument(
                f"config file {source}: unknown key {name!r}",
                hint=f"known here: {', '.join(sorted(known))}",
            )
        values[key] = _value(getattr(default, key), value, source, name)
    return replace(default, **values)


def _value(default: Any, value: Any, source: str, name: str) -> Any:
    """``value`` in the type that ``default`` has."""
    if hasattr(default, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise InvalidArgument(f"config file {source}: {name!r} must be a table")
        return _build(type(default), value, source, f"{name}.")
    if isinstance(default, Path) and isinstance(value, str):
        return Path(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(str(item) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, Mapping) and isinstance(value, dict):
        return value
    if type(value) is not type(default):
        raise InvalidArgument(
            f"config file {source}: {name!r} must be {type(default).__name__},"
            f" not {type(value).__name__}"
        )
    return value


def validate(config: Config) -> Config:
    """Check what types cannot say."""
    if config.log_level not in LEVELS:
        raise InvalidArgument(
            f"log level {config.log_level!r}: unknown", hint=f"one of {', '.join(LEVELS)}"
        )
    for what, path in (("root", config.root), ("state", config.state)):
        if not path.is_absolute():
            raise InvalidArgument(f"{what} {path}: must be an absolute path")
    config.proxies()
    _check_tcp(config.tcp)
    registry = config.registry
    if registry.timeout <= 0 or min(registry.attempts, registry.connections) < 1:
        raise InvalidArgument("config: registry.timeout, attempts and connections must be positive")
    address = config.address.removeprefix("unix://")
    if not address.startswith("/"):
        raise InvalidArgument(f"address {config.address}: must be an absolute socket path")
    # sun_path holds 108 bytes; ".ttrpc" is appended for the shims' socket
    if len(address.encode()) > 100:
        raise InvalidArgument(
            f"address {address}: longer than the 100 bytes a unix socket may have"
        )
    return replace(config, address=address)


def _check_tcp(tcp: TcpConfig) -> None:
    """The network only with certificates on both sides."""
    files = {"ca": tcp.ca, "certificate": tcp.certificate, "key": tcp.key}
    if not tcp.address:
        if any(files.values()):
            raise InvalidArgument("config: tcp has files and no address", hint="tcp://host:2376")
        return
    if not isinstance(parsed(tcp.address), Tcp):
        raise InvalidArgument(f"config: tcp.address {tcp.address!r}: must be tcp://host:port")
    for name, path in files.items():
        if not path:
            raise InvalidArgument(
                f"config: tcp.address {tcp.address}: needs tcp.{name}",
                hint="there is no way without: every client shows a certificate that tcp.ca signed",
            )
        if not Path(path).is_absolute():
            raise InvalidArgument(f"config: tcp.{name} {path!r}: must be an absolute path")


def dump(config: Config) -> str:
    """The configuration as TOML that :func:`load` reads back."""
    import tomli_w

    table = asdict(config)
    table["root"], table["state"] = str(config.root), str(config.state)
    for key, value in list(table.items()):
        if isinstance(value, tuple):
            table[key] = list(value)
    text = tomli_w.dumps(table)
    # a mode is read as octal by everybody
    return text.replace(f"mode = {config.grpc.mode}", f"mode = 0o{config.grpc.mode:o}")
