"""``cored``: arguments to configuration, configuration to a daemon."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cored.config import LEVELS, Config, dump, load, validate
from cored.errors import CoredError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 for an error that was printed, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    try:
        if getattr(options, "what", None) == "default":
            print(dump(Config()), end="")
            return 0
        config = validate(_overridden(load(options.config), options))
        if getattr(options, "what", None) == "dump":
            print(dump(config), end="")
            return 0
        _serve(config, storage=getattr(options, "what", None) == "storage")
    except CoredError as error:
        print(f"cored: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cored", description="A container daemon.")
    parser.add_argument("--address", help=f"socket to serve on (default: {Config().address})")
    parser.add_argument("--root", type=Path, help=f"durable data (default: {Config().root})")
    parser.add_argument("--state", type=Path, help=f"run-time data (default: {Config().state})")
    parser.add_argument("--config", type=Path, help="TOML file (default: /etc/cored/config.toml)")
    parser.add_argument("--log-level", choices=LEVELS, help="default: info")
    commands = parser.add_subparsers(title="commands", metavar="")
    config = commands.add_parser("config", help="show the configuration")
    config.add_argument("what", choices=("default", "dump"), help="as shipped, or as in force")
    storage = commands.add_parser(
        "storage", help="serve snapshotters and content alone, as another daemon's proxy plugins"
    )
    storage.set_defaults(what="storage")
    return parser


def _overridden(config: Config, options: argparse.Namespace) -> Config:
    flags = {
        name: getattr(options, name)
        for name in ("address", "root", "state", "log_level")
        if getattr(options, name) is not None
    }
    return replace(config, **flags)


def _serve(config: Config, *, storage: bool) -> None:
    # what is imported stays; settle_memory() turns it on again
    gc.disable()
    # imported here: `cored config` and `--help` need none of it
    # no fork handlers: the daemon starts processes while its threads are in gRPC
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # the older poller answers a unary call in 60-85% of the time (grpcio 1.85)
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener,-event_engine_client")
    import uvloop

    from cored import log

    if storage:
        from cored.storage import run
    else:
        from cored.daemon import run

        found = os.environ.get("PATH", os.defpath)
        os.environ["PATH"] = f"{config.opt / 'bin'}{os.pathsep}{found}"

    log.configure(config.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config))


if __name__ == "__main__":
    sys.exit(main())
