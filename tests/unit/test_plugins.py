"""Plugins: found by entry point, opened in order, and a failing one is shown, not fatal."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from cored import hookspecs
from cored.errors import FailedPrecondition, NotFound
from cored.hookspecs import PluginContext, PluginKind, Provider, hookimpl
from cored.plugins import Context, Plugins


def offer(hook: str, id: str, log: list[str], error: Exception | None = None) -> Any:
    """A plugin module that implements one provider hook."""

    @asynccontextmanager
    async def opening(context: PluginContext) -> AsyncIterator[object]:
        if error is not None:
            raise error
        log.append(f"open {id}")
        yield SimpleNamespace(id=id, settings=context.settings)
        log.append(f"close {id}")

    def implementation() -> Provider[object]:
        return Provider(id, opening, capabilities=("good",))

    implementation.__name__ = hook
    return SimpleNamespace(**{hook: hookimpl(implementation)})


def plugins_of(*modules: Any, disabled: frozenset[str] = frozenset()) -> Plugins:
    manager = pluggy.PluginManager("cored")
    manager.add_hookspecs(hookspecs.Hooks)
    for number, module in enumerate(modules):
        manager.register(module, name=f"m{number}")

    def context(plugins: Plugins, kind: PluginKind, id: str) -> Context:
        return Context(id, kind, Path("/r"), Path("/s"), {"for": id}, "/sock", plugins)

    return Plugins(manager, [], context, disabled)


async def test_kinds_open_in_order_and_close_in_reverse() -> None:
    log: list[str] = []
    plugins = plugins_of(
        offer("cored_snapshotter", "snap", log), offer("cored_content_store", "blobs", log)
    )
    async with AsyncExitStack() as stack:
        for kind in PluginKind:
            await plugins.open(kind, stack)
        assert plugins.named(PluginKind.SNAPSHOTTER, "snap").settings == {"for": "snap"}
    assert log == ["open blobs", "open snap", "close snap", "close blobs"]


async def test_a_failing_plugin_is_recorded_and_the_others_open() -> None:
    plugins = plugins_of(
        offer("cored_snapshotter", "bad", [], FailedPrecondition("no overlay here")),
        offer("cored_snapshotter", "worse", [], RuntimeError("boom")),
        offer("cored_snapshotter", "good", []),
    )
    async with AsyncExitStack() as stack:
        await plugins.open(PluginKind.SNAPSHOTTER, stack)
        assert list(plugins.open_of(PluginKind.SNAPSHOTTER)) == ["good"]
        errors = {plugin.id: plugin.error for plugin in plugins}
        assert errors == {"bad": "no overlay here", "worse": "RuntimeError: boom", "good": ""}
        with pytest.raises(NotFound, match=r"failed to load: no overlay here .*open ones: good"):
            plugins.named(PluginKind.SNAPSHOTTER, "bad")


async def test_the_second_plugin_of_one_id_is_refused() -> None:
    log: list[str] = []
    plugins = plugins_of(
        offer("cored_snapshotter", "same", log), offer("cored_snapshotter", "same", log)
    )
    async with AsyncExitStack() as stack:
        await plugins.open(PluginKind.SNAPSHOTTER, stack)
    assert log == ["open same", "close same"]
    assert sorted(p.error for p in plugins) == ["", "another plugin of this kind has the same id"]


async def test_a_disabled_plugin_stays_closed() -> None:
    log: list[str] = []
    plugins = plugins_of(offer("cored_differ", "d", log), disabled=frozenset({"differ.d"}))
    async with AsyncExitStack() as stack:
        await plugins.open(PluginKind.DIFFER, stack)
    assert log == []
    assert [p.disabled for p in plugins] == [True]


def test_what_is_not_open_yet_cannot_be_required() -> None:
    plugins = plugins_of()
    with pytest.raises(FailedPrecondition, match="int: not open"):
        plugins.require(int)
    plugins.provide(int, 7)
    assert plugins.require(int) == 7


PACKAGE = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "cored-tiny"
        version = "1"
        [project.entry-points."cored.plugins"]
        tiny = "cored_tiny"
        tiny_broken = "cored_tiny_broken"
        tiny_misspelt = "cored_tiny_misspelt"
        [tool.hatch.build.targets.wheel]
        include = ["*.py"]
    """,
    "cored_tiny.py": """
        from contextlib import asynccontextmanager
        from cored.hookspecs import Provider, hookimpl

        @asynccontextmanager
        async def opened(context):
            yield object()

        @hookimpl
        def cored_network():
            return Provider("tiny", opened, capabilities=("small",))
    """,
    "cored_tiny_broken.py": "import a_module_that_is_not_there",
    "cored_tiny_misspelt.py": """
        from cored.hookspecs import hookimpl

        @hookimpl
        def cored_netwrok():
            pass
    """,
}


@pytest.mark.slow
def test_a_package_installed_with_pip_is_picked_up(tmp_path: Path) -> None:
    package, target = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(textwrap.dedent(text))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", str(target), str(package)], check=True)
    script = textwrap.dedent(
        """
        from cored.plugins import discover
        manager, failed = discover()
        offers = {i.function().id for i in manager.hook.cored_network.get_hookimpls()}
        print("tiny" in offers)
        for plugin in failed:
            print(plugin.id, "|", plugin.error)
        """
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{target}:" + ":".join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = found.stdout.splitlines()
    assert "True" in lines
    assert (
        "tiny_broken | ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in lines
    )
    assert any(line.startswith("tiny_misspelt | unknown hook:") for line in lines)
