"""nftables through libnftables, in process (libnftables(3)): a tenth of a millisecond a command."""

from __future__ import annotations

import ctypes
import json
from typing import Any

from cored.errors import FailedPrecondition

__all__ = ["Nftables", "Refused"]

_LIBRARY = "libnftables.so.1"
_OUTPUT_JSON = 1 << 4


class Refused(Exception):
    """The kernel or the parser refused a command; the text is nft's."""


class Nftables:
    """A context in the network namespace of the thread that makes it; used by one thread."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise FailedPrecondition(
                f"{_LIBRARY}: not on this host", hint="apt-get install libnftables1"
            ) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(library, name).restype = ctypes.c_char_p
        self._library = library
        self._context: ctypes.c_void_p | None = ctypes.c_void_p(library.nft_ctx_new(0))
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_buffer_output(self._context)

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, commands: str) -> None:
        """Run commands in nft's language as one transaction. Refused."""
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            text = self._library.nft_ctx_get_error_buffer(self._context) or b""
            raise Refused(text.decode(errors="replace").strip())

    def list(self, what: str) -> list[dict[str, Any]]:
        """What ``list <what>`` answers as JSON (libnftables-json(5)). Refused."""
        self._library.nft_ctx_output_set_flags(self._context, _OUTPUT_JSON)
        try:
            self.run(f"list {what}")
            text = self._library.nft_ctx_get_output_buffer(self._context) or b"{}"
        finally:
            self._library.nft_ctx_output_set_flags(self._context, 0)
        return list(json.loads(text).get("nftables", ()))
