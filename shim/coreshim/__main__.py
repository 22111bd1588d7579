"""``containerd-shim-cored-v2``: containerd's shim command line, and the daemon's zygote."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from coreshim.hibernation import Parcel

__all__ = ["main"]

VERSION = "0.1.0"


class _Options:
    """The flags that containerd passes: single dashes, as Go's flag package has them."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.values: dict[str, str] = {}
        self.action = ""
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-"):
                self.action = word
                continue
            name, equals, value = word.lstrip("-").partition("=")
            if name in ("debug", "v", "info"):
                value = value or "true"
            elif not equals:
                value = rest.pop(0) if rest else ""
            self.values[name] = value

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")


def main() -> int:
    """The exit status: 0, 1 with a line on stderr, 2 for bad usage."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["zygote"] and len(arguments) == 2:
        from coreshim import zygote

        zygote.run(int(arguments[1]))
        return 0
    options = _Options(arguments)
    if options["v"]:
        print(f"containerd-shim-cored-v2 {VERSION}")
        return 0
    if options["info"]:
        from coreshim.about import info

        sys.stdout.buffer.write(info(VERSION, sys.stdin.buffer.read()))
        return 0
    if options.action not in ("start", "delete") or not options["id"] or not options["namespace"]:
        print(
            "usage: containerd-shim-cored-v2 -namespace NS -id ID [-address A]"
            " [-publish-binary B] [-bundle DIR] start|delete",
            file=sys.stderr,
        )
        return 2
    bundle = os.path.abspath(options["bundle"] or ".")
    try:
        if options.action == "start":
            _start(options, bundle)
        else:
            _delete(options, bundle)
    except Exception as error:
        print(f"containerd-shim-cored-v2: {options['id']}: {error}", file=sys.stderr)
        return 1
    return 0


def _start(options: _Options, bundle: str) -> None:
    """Leave a shim behind and print where it listens."""
    from coreshim import shim
    from coreshim.keeper import Keeper, prepare
    from coreshim.publish import ttrpc_address

    path = shim.socket_path(options["address"], options["namespace"], options["id"])
    os.closerange(3, 1 << 16)
    inbox, outbox = os.pipe()
    if os.fork() == 0:
        os.close(inbox)
        try:
            if os.fork() == 0:
                prepare()
                events = ttrpc_address()
                order = shim.Order(options["namespace"], options["id"], bundle, path, events, True)

                def work(line: socket.socket, parcel: Parcel | None) -> None:
                    if parcel is None:
                        shim.serve(line, order, lambda address: _tell(outbox, address))
                    else:
                        shim.resume(line, parcel)

                Keeper(work, (outbox,)).run()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.close(outbox)
    os.wait()
    with open(inbox) as reader:
        address = reader.read()
    if not address:
        raise RuntimeError(f"did not start, see {bundle}/shim.log")
    if int(os.environ.get("MAX_SHIM_VERSION", "2")) >= 3:
        address = json.dumps({"version": 3, "address": address, "protocol": "ttrpc"})
    print(address, end="", flush=True)


def _tell(pipe: int, address: str) -> None:
    os.write(pipe, address.encode())
    os.close(pipe)


def _delete(options: _Options, bundle: str) -> None:
    """Clean up after a shim that is gone, or end one that is not; print a DeleteResponse."""
    from coreshim import shim
    from coreshim.cleanup import clean_up

    path = shim.socket_path(options["address"], options["namespace"], options["id"])
    sys.stdout.buffer.write(clean_up(bundle, options["namespace"], options["id"], path))


if __name__ == "__main__":
    sys.exit(main())
