"""Short forms of single values: ports, volumes, devices, commands, pairs."""

from __future__ import annotations

import shlex

from corectl.compose.tree import Node, graft, invalid
from cored.errors import InvalidArgument

__all__ = ["devices", "listed", "names", "pairs", "port", "source", "volume", "words"]

_ACCESS = {"ro": True, "rw": False}
_PROPAGATIONS = {"shared", "slave", "private", "rshared", "rslave", "rprivate"}
# of other systems: they change nothing on Linux
_IGNORED = {"cached", "delegated", "consistent"}


def text(node: Node, path: str) -> str:
    """A scalar as it would be written."""
    match node.value:
        case bool() as flag:
            return "true" if flag else "false"
        case str() | int() | float() as value:
            return f"{value:g}" if isinstance(value, float) else str(value)
        case _:
            raise invalid(node, path, "must be a word or a number")


def pairs(node: Node, path: str) -> Node:
    """``[A=B, C]`` as ``{A: B, C: null}``."""
    if not isinstance(node.value, list):
        return node
    found = {}
    for number, item in enumerate(node.value):
        name, equals, value = text(item, f"{path}.{number}").partition("=")
        if not name:
            raise invalid(item, f"{path}.{number}", "no name", hint="write NAME=VALUE")
        found[name] = Node(value if equals else None, item.place)
    return Node(found, node.place, node.tag)


def names(node: Node, path: str) -> Node:
    """``[a, b]`` as ``{a: null, b: null}``."""
    if not isinstance(node.value, list):
        return node
    items = enumerate(node.value)
    found = {text(item, f"{path}.{n}"): Node(None, item.place) for n, item in items}
    return Node(found, node.place, node.tag)


def listed(node: Node, path: str) -> Node:
    """``a`` as ``[a]``."""
    if node.value is None or isinstance(node.value, list):
        return node
    return Node([node], node.place, node.tag)


def words(node: Node, path: str) -> Node:
    """A line of a shell as its words."""
    if not isinstance(node.value, str):
        return node
    try:
        return Node([Node(w, node.place) for w in shlex.split(node.value)], node.place, node.tag)
    except ValueError as error:
        raise invalid(node, path, f"'{node.value}': {str(error).lower()}") from error


def source(node: Node, path: str) -> Node:
    """A config or secret by its name."""
    if isinstance(node.value, dict):
        return node
    return graft({"source": text(node, path)}, node.place)


def port(node: Node, path: str) -> list[Node]:
    """The long forms of ``[[IP:]HOST:]PORT[/udp]``, whose ports may be ranges."""
    if isinstance(node.value, dict):
        return [_published(node)]
    from corectl import networking

    short = text(node, path)
    if "${" in short:
        # nothing was to be interpolated
        return [node]
    try:
        ports = networking.ports([short])
    except InvalidArgument as error:
        problem = f"'{short}': {error.message.partition(': ')[2]}"
        raise invalid(node, path, problem, hint=error.hint) from error
    found = []
    for one in ports:
        last = f"-{one.host_last}" if one.host_last else ""
        long = {
            "mode": "ingress",
            **({"host_ip": one.host_ip} if one.host_ip else {}),
            "target": one.container,
            **({"published": f"{one.host}{last}"} if one.host else {}),
            "protocol": one.protocol,
        }
        found.append(graft(long, node.place))
    return found


def _published(node: Node) -> Node:
    changes = {"mode": "ingress", "protocol": "tcp"}
    made = {**graft(changes, node.place).mapping, **node.mapping}
    if isinstance(made.get("published", node).value, int):
        made["published"] = Node(str(made["published"].value), made["published"].place)
    return Node(made, node.place, node.tag)


def volume(node: Node, path: str) -> Node:
    """The long form of ``[SOURCE:]TARGET[:OPTIONS]``."""
    if isinstance(node.value, dict):
        return node
    short = text(node, path)
    if "${" in short:
        return node
    parts = short.split(":")
    hint = "write SOURCE:TARGET or SOURCE:TARGET:ro"
    if not all(parts) or len(parts) > 3:
        raise invalid(node, path, f"'{short}': not a volume", hint=hint)
    if len(parts) == 1:
        return graft({"type": "volume", "target": short}, node.place)
    origin, target = parts[:2]
    kind = "bind" if origin[0] in "./~" else "volume"
    long: dict[str, object] = {"type": kind, "source": origin, "target": target}
    inner: dict[str, object] = {"create_host_path": True} if kind == "bind" else {}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in _ACCESS:
            long |= {"read_only": True} if _ACCESS[option] else {}
        elif option in _PROPAGATIONS and kind == "bind":
            inner["propagation"] = option
        elif option in ("z", "Z") and kind == "bind":
            inner["selinux"] = option
        elif option == "nocopy" and kind == "volume":
            inner["nocopy"] = True
        elif option not in _IGNORED:
            raise invalid(node, path, f"'{short}': unknown option {option}", hint=hint)
    if inner:
        long[kind] = inner
    return graft(long, node.place)


def devices(node: Node, path: str) -> Node:
    """The long form of ``SOURCE[:TARGET][:rwm]``."""
    if isinstance(node.value, dict):
        return node
    short = text(node, path)
    origin, *rest = short.split(":")
    target = rest.pop(0) if rest and rest[0].startswith("/") else origin
    if not origin or len(rest) > 1:
        hint = "write /dev/fuse or /dev/a:/dev/b:rw"
        raise invalid(node, path, f"'{short}': not a device", hint=hint)
    permissions = rest[0] if rest else "rwm"
    return graft({"source": origin, "target": target, "permissions": permissions}, node.place)
