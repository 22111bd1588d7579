"""What a stage has come to: files, environment, config and history, changed step by step."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cored_service_build.values import Layer

__all__ = ["StageState", "timestamp"]

_SHELL = ("/bin/sh", "-c")


def timestamp(seconds: float) -> str:
    """RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class StageState:
    """``document`` is an image's config as JSON; layers and chain id are kept beside it."""

    document: dict[str, Any]
    chain_id: str = ""
    layers: list[Layer] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = _SHELL
    platform: str = ""
    triggers: tuple[str, ...] = ()
    created: str = timestamp(0)
    own_cmd: bool = False
    """Whether CMD was set here, and not by the base image."""

    @classmethod
    def scratch(cls, platform: str) -> StageState:
        os, architecture, *variant = platform.split("/")
        document: dict[str, Any] = {"architecture": architecture, "os": os}
        if variant:
            document["variant"] = variant[0]
        document["config"] = {"Env": [f"PATH={_PATH}"], "WorkingDir": "/"}
        return cls(document, platform=platform)

    @classmethod
    def image(cls, config: bytes, layers: list[Layer], chain_id: str, platform: str) -> StageState:
        document = json.loads(config)
        state = cls(document, chain_id, layers, platform=platform)
        state.created = document.get("created") or state.created
        inner = state.config
        state.triggers = tuple(inner.pop("OnBuild", None) or ())
        state.shell = tuple(inner.get("Shell") or _SHELL)
        if not any(entry.startswith("PATH=") for entry in inner.get("Env") or ()):
            inner["Env"] = [f"PATH={_PATH}", *(inner.get("Env") or ())]
        return state

    def following(self) -> StageState:
        """The beginning of a stage that is based on this one: its own arguments, no triggers."""
        triggers = tuple(self.config.get("OnBuild") or ())
        document = copy.deepcopy(self.document)
        document["config"].pop("OnBuild", None)
        return StageState(
            document, self.chain_id, list(self.layers), {}, self.shell, self.platform, triggers,
            self.created,
        )  # fmt: skip

    @property
    def config(self) -> dict[str, Any]:
        found = self.document.get("config")
        if not isinstance(found, dict):
            found = self.document["config"] = {}
        return found

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.config.get("Env") or ())

    def set_env(self, name: str, value: str) -> None:
        values = {**self.env, name: value}
        self.config["Env"] = [f"{key}={text}" for key, text in values.items()]

    @property
    def variables(self) -> Mapping[str, str]:
        """What words may use: ENV wins over ARG."""
        return {**self.args, **self.env}

    @property
    def directory(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    def remember(self, text: str, *, created_at: int = 0, layer: Layer | None = None) -> None:
        """One more line of the history, and the layer that came with it.

        ``created_at`` is in ns; what touches no file has the time of the step before it, so that
        the same build is the same image.
        """
        if created_at:
            self.created = timestamp(created_at / 1e9)
        created = self.created
        entry: dict[str, Any] = {
            "created": created, "created_by": text, "comment": "cored.build.v1",
        }  # fmt: skip
        if layer is None:
            entry["empty_layer"] = True
        else:
            self.layers.append(layer)
        history = self.document.get("history")
        self.document["history"] = [*(history or ()), entry]


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
