"""Writes cored/client/aio from cored/client/api: the same classes and signatures, awaited.

    python -m tests.surfaces

What it writes is committed; tests/unit/test_client_surfaces.py fails when it is not up to date.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TARGET", "generated"]

_CLIENT = Path(__file__).resolve().parents[1] / "cored" / "client"
SOURCE, TARGET = _CLIENT / "api", _CLIENT / "aio"
_MODULES = ("builds", "container_files", "containers", "images", "places", "sessions", "system",
            "watching")  # fmt: skip
# not a part of the surface: how the synchronous ones are put together
_INNER = {"Streams", "Auth"}
_HIDDEN = {"at_close"}
# used by other modules of the package
_AWAITED = {"FileVerbs", "Session", "WatchingVerbs"}


def generated() -> dict[str, str]:
    """The text of each file of cored/client/aio, by name."""
    found = {f"{name}.py": _formatted(_module(name)) for name in _MODULES}
    found["__init__.py"] = '"""What is in cored.client.api, awaited."""\n'
    found["client.py"] = _formatted(_client())
    return found


def _module(name: str) -> str:
    tree = ast.parse((SOURCE / f"{name}.py").read_text())
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name not in _INNER]
    lines = [
        f'"""{ast.get_docstring(tree)}\n\nAwaited; written by tests/surfaces.py.\n"""',
        "from __future__ import annotations",
        *_imports(tree),
        "from collections.abc import AsyncIterator",
        "from typing import Unpack",
        f"from cored.client.api import {name} as api",
        "from cored.client.aio.verbs import Verbs, iteration",
    ]
    if name == "images":
        lines.append("from cored.client.api.images import Auth")
    names = {"Auth"} if name == "images" else set()
    names |= {one.name for one in classes}
    lines.append(f"__all__ = {sorted(names)!r}")
    for one in classes:
        lines += _class(one)
    return "\n".join(lines)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Those of the module, with the awaited classes in place of the others."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                package = "aio" if one.name in _AWAITED else "api"
                place = (node.module or "").replace("client.api.", f"client.{package}.")
                yield f"from {place} import {ast.unparse(one)}"


def _class(one: ast.ClassDef) -> Iterator[str]:
    bases = [ast.unparse(base) for base in one.bases]
    yield f"class {one.name}({', '.join(bases) or 'Verbs'}):"
    yield f'    """{ast.get_docstring(one, clean=False)}"""'
    yield f"    _inner: api.{one.name}"
    for node in one.body:
        if isinstance(node, ast.FunctionDef):
            if node.name == "__iter__":
                yield from _iterator()
            elif not node.name.startswith("_") and node.name not in _HIDDEN:
                yield from _method(node)


def _iterator() -> Iterator[str]:
    yield "    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:"
    yield "        return self.output()"


def _method(node: ast.FunctionDef) -> Iterator[str]:
    assert node.returns is not None
    answer = ast.unparse(node.returns)
    streams = answer.startswith("Iterator[")
    kind = "def" if streams else "async def"
    answer = answer.replace("Iterator[", "AsyncIterator[", 1) if streams else answer
    yield f"    {kind} {node.name}({ast.unparse(node.args)}) -> {answer}:"
    yield f'        """{_told(node)}"""'
    call = ", ".join((f"self._inner.{node.name}", *_passed(node.args)))
    if streams:
        inner = ", ".join(_passed(node.args))
        yield f"        return iteration(lambda: self._inner.{node.name}({inner}))"
    elif answer == "Session":
        yield f"        return Session(await self._call({call}))"
    elif answer == "None":
        yield f"        await self._call({call})"
    else:
        yield f"        return await self._call({call})"


def _told(node: ast.FunctionDef) -> str:
    """The docstring without its example, which is the synchronous one's."""
    lines = (ast.get_docstring(node, clean=False) or "").splitlines()
    end = next((i for i, line in enumerate(lines) if line.strip().startswith(">>>")), len(lines))
    text = "\n".join(lines[:end]).strip()
    return f"{text}\n        " if "\n" in text else text


def _passed(arguments: ast.arguments) -> Iterator[str]:
    yield from (one.arg for one in arguments.args[1:])
    yield from (f"{one.arg}={one.arg}" for one in arguments.kwonlyargs)
    if arguments.kwarg is not None:
        yield f"**{arguments.kwarg.arg}"


def _client() -> str:
    """AsyncClient, with the properties of Client."""
    tree = ast.parse((_CLIENT / "client.py").read_text())
    (client,) = (n for n in tree.body if isinstance(n, ast.ClassDef))
    properties = [
        (n.name, ast.unparse(n.returns or ast.Constant(None)), ast.get_docstring(n))
        for n in client.body
        if isinstance(n, ast.FunctionDef) and n.decorator_list
    ]
    lines = ['"""A daemon\'s API, awaited; written by tests/surfaces.py."""']
    lines += ["from __future__ import annotations", "from functools import cached_property"]
    lines += ["from types import TracebackType", "from typing import Self"]
    modules = {"Namespaces": "places", "Networks": "places", "Volumes": "places"}
    wanted = [(n, c, d) for n, c, d in properties if n not in ("channel", "workloads")]
    for _, kind, _ in wanted:
        lines.append(f"from cored.client.aio.{modules.get(kind, kind.lower())} import {kind}")
    lines += ["from cored.client.client import Client", "from cored.client.tls import TLS"]
    lines += ['__all__ = ["AsyncClient"]', _HEAD]
    for name, kind, told in wanted:
        lines += ["    @cached_property", f"    def {name}(self) -> {kind}:"]
        lines += [f'        """{told}"""', f"        return {kind}(self._client.{name})"]
    return "\n".join(lines)


_HEAD = '''
class AsyncClient:
    """:class:`~cored.client.Client`, awaited: the same arguments, verbs, answers and errors.

    Each call that is under way has a thread; one whose task is cancelled is broken off.
    """

    def __init__(
        self, host: str = "", *, namespace: str = "default", tls: TLS | None = None
    ) -> None:
        self._client = Client(host, namespace=namespace, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def host(self) -> str:
        """The daemon's address."""
        return self._client.host

    @property
    def namespace(self) -> str:
        """Where everything happens."""
        return self._client.namespace

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def within(self, namespace: str) -> AsyncClient:
        """The same daemon, in another namespace; to be closed by itself."""
        return AsyncClient(self.host, namespace=namespace, tls=self._client.tls)
'''


def _formatted(text: str) -> str:
    ruff = (sys.executable, "-m", "ruff")
    path = str(TARGET / "generated.py")
    steps = (
        (*ruff, "format", "--stdin-filename", path, "-"),
        (*ruff, "check", "--fix", "--quiet", "--select=F401,I,F811", "--stdin-filename", path, "-"),
        (*ruff, "format", "--stdin-filename", path, "-"),
    )
    for step in steps:
        done = subprocess.run(step, input=text, capture_output=True, text=True, check=False)
        if not done.stdout:
            raise RuntimeError(f"{' '.join(step)}: {done.stderr}\n{text}")
        text = done.stdout
    return text


def main() -> None:
    """Write them."""
    for name, text in generated().items():
        (TARGET / name).write_text(text)


if __name__ == "__main__":
    main()
