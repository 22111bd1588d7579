"""The resolved model as people and programs read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from corectl.compose.project import Project
from corectl.compose.tree import Node, plain

__all__ = ["as_yaml", "document", "hashes", "image_of", "service_hash"]

_ORDER = ("name", "services", "networks", "volumes", "configs", "secrets")
# what says how many and when, not what a container is
_NOT_HASHED = {"build", "pull_policy", "pull_refresh_after", "scale", "depends_on", "profiles",
               "develop", "attach"}  # fmt: skip


def document(
    tree: Node, services: set[str] | None = None, *, escape: bool = True
) -> dict[str, Any]:
    """Plain values in the customary order; ``escape`` doubles dollar signs."""
    found = plain(tree)
    if services is not None:
        found["services"] = {k: v for k, v in found["services"].items() if k in services}
    ordered = {key: found[key] for key in _ORDER if key in found}
    ordered |= {key: found[key] for key in found if key.startswith("x-")}
    ordered = {k: v for k, v in ordered.items() if v not in ({}, None) or k == "services"}
    return {key: _sorted(value, escape) for key, value in ordered.items()}


def _sorted(value: Any, escape: bool) -> Any:
    match value:
        case dict():
            return {key: _sorted(value[key], escape) for key in sorted(value)}
        case list():
            return [_sorted(one, escape) for one in value]
        case str() if escape:
            return value.replace("$", "$$")
        case _:
            return value


def as_yaml(value: Mapping[str, Any]) -> str:
    """YAML 1.2 that every reader understands."""
    import yaml

    text: str = yaml.safe_dump(
        dict(value), sort_keys=False, default_flow_style=False, allow_unicode=True, width=1000
    )
    return text


def service_hash(project: Project, name: str) -> str:
    """A hash of what makes a service's containers what they are."""
    service = plain(project.tree.mapping["services"].mapping[name])
    kept = {key: value for key, value in service.items() if key not in _NOT_HASHED}
    if isinstance(deploy := kept.get("deploy"), dict):
        kept["deploy"] = {k: v for k, v in deploy.items() if k not in ("replicas", "update_config")}
    text = json.dumps([kept, image_of(project, name)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hashes(project: Project) -> dict[str, str]:
    """Each service's hash."""
    return {name: service_hash(project, name) for name in sorted(project.services)}


def image_of(project: Project, name: str) -> str:
    """What a service's image is called, also when it is built here."""
    service = project.services.get(name) or project.disabled[name]
    return service.image or f"{project.name}-{name}"
