"""Short forms of a file's keys to long ones, so that merging and reading know one form only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from corectl.compose import forms
from corectl.compose.tree import Node, child, graft, invalid

__all__ = ["lengthen", "lengthen_service"]

Form = Callable[[Node, str], Node]


def _each(form: Form) -> Form:
    """Every item of a list; a scalar is a list of one."""

    def change(node: Node, path: str) -> Node:
        many = forms.listed(node, path)
        items = [form(item, child(path, n)) for n, item in enumerate(many.items)]
        return replace(many, value=items) if isinstance(many.value, list) else node

    return change


def _within(table: Mapping[str, Form]) -> Form:
    """Keys of a mapping."""

    def change(node: Node, path: str) -> Node:
        if not isinstance(node.value, dict):
            return node
        return node.with_keys(
            {
                key: form(node.mapping[key], child(path, key))
                for key, form in table.items()
                if key in node.mapping
            }
        )

    return change


def _every(form: Form) -> Form:
    """Values of a mapping whose keys are names."""

    def change(node: Node, path: str) -> Node:
        found = {key: form(value, child(path, key)) for key, value in node.mapping.items()}
        return node.with_keys(found) if isinstance(node.value, dict) else node

    return change


def _ports(node: Node, path: str) -> Node:
    many = forms.listed(node, path)
    if not isinstance(many.value, list):
        return node
    found = [one for n, item in enumerate(many.value) for one in forms.port(item, child(path, n))]
    return replace(many, value=found)


def _path(node: Node, path: str) -> Node:
    if isinstance(node.value, dict):
        return node
    return graft({"path": forms.text(node, path), "required": True}, node.place)


def _strings(node: Node, path: str) -> Node:
    return Node(forms.text(node, path), node.place, node.tag)


def _build(node: Node, path: str) -> Node:
    short = graft({"context": node}, node.place) if isinstance(node.value, str) else node
    long = _within(_BUILD)(short, path)
    if isinstance(long.value, dict) and "context" not in long.mapping:
        return long.with_keys({"context": Node(".", node.place)})
    return long


def _depends_on(node: Node, path: str) -> Node:
    long = forms.names(node, path)

    def dependency(one: Node, where: str) -> Node:
        usual = graft({"condition": "service_started", "required": True}, one.place)
        return usual.with_keys(one.mapping) if isinstance(one.value, dict | None) else one

    return _every(dependency)(long, path)


def _extends(node: Node, path: str) -> Node:
    return graft({"service": node}, node.place) if isinstance(node.value, str) else node


def _test(node: Node, path: str) -> Node:
    if not isinstance(node.value, str):
        return node
    return graft(["CMD-SHELL", node.value], node.place)


def _hosts(node: Node, path: str) -> Node:
    """Mappings and lists to a list of NAME=ADDRESS."""
    if isinstance(node.value, dict):
        made = [
            Node(f"{name}={forms.text(one, path)}", one.place)
            for name, many in node.value.items()
            for one in (many.items or [many])
        ]
        return Node(made, node.place, node.tag)

    def one(item: Node, where: str) -> Node:
        short = forms.text(item, where)
        name, separator, address = short.partition("=")
        if not separator:
            name, separator, address = short.partition(":")
        if not (name and address):
            raise invalid(item, where, f"'{short}': not a host", hint="write NAME=ADDRESS")
        return Node(f"{name}={address.strip('[]')}", item.place)

    return _each(one)(node, path)


def _external(node: Node, path: str) -> Node:
    """``external: {name: x}``, as it was once written."""
    outer = node.mapping.get("external")
    if outer is None or not isinstance(outer.value, dict):
        return node
    named = {"name": outer.mapping["name"]} if "name" in outer.mapping else {}
    return node.with_keys({"external": Node(True, outer.place), **named})


def _gpus(node: Node, path: str) -> Node:
    if node.value == "all":
        return graft([{"count": -1}], node.place)
    return node


_BUILD: dict[str, Form] = {
    "args": forms.pairs,
    "labels": forms.pairs,
    "additional_contexts": forms.pairs,
    "ssh": lambda node, path: _each(_strings)(node, path),
    "cache_from": _each(_strings),
    "cache_to": _each(_strings),
    "tags": _each(_strings),
    "platforms": _each(_strings),
    "entitlements": _each(_strings),
    "extra_hosts": _hosts,
    "secrets": _each(forms.source),
}
_HOOK = _within({"command": forms.words, "environment": forms.pairs})
_WATCH = _within({"exec": _HOOK, "ignore": _each(_strings), "include": _each(_strings)})
_SERVICE: dict[str, Form] = {
    "annotations": forms.pairs,
    "build": _build,
    "command": forms.words,
    "configs": _each(forms.source),
    "depends_on": _depends_on,
    "deploy": _within({"labels": forms.pairs}),
    "develop": _within({"watch": _each(_WATCH)}),
    "devices": _each(forms.devices),
    "dns": _each(_strings),
    "dns_opt": _each(_strings),
    "dns_search": _each(_strings),
    "entrypoint": forms.words,
    "env_file": _each(_path),
    "environment": forms.pairs,
    "expose": _each(_strings),
    "extends": _extends,
    "extra_hosts": _hosts,
    "gpus": _gpus,
    "group_add": _each(_strings),
    "healthcheck": _within({"test": _test}),
    "label_file": _each(_path),
    "labels": forms.pairs,
    "models": forms.names,
    "networks": forms.names,
    "ports": _ports,
    "post_start": _each(_HOOK),
    "pre_start": _each(_HOOK),
    "pre_stop": _each(_HOOK),
    "secrets": _each(forms.source),
    "storage_opt": forms.pairs,
    "sysctls": forms.pairs,
    "tmpfs": _each(_strings),
    "volumes": _each(forms.volume),
}
_OUTER = _every(lambda node, path: _within({"labels": forms.pairs})(_external(node, path), path))
lengthen_service = _within(_SERVICE)
_FILE = _within(
    {
        "services": _every(lengthen_service),
        "networks": _OUTER,
        "volumes": _OUTER,
        "secrets": _OUTER,
        "configs": _OUTER,
    }
)


def lengthen(file: Node) -> Node:
    """A whole file in the long form. InvalidArgument for short forms that nobody understands."""
    return _FILE(file, "")
