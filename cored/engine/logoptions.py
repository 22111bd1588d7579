"""docker's options of log drivers: which there are, and whether what is said means something."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cored.errors import InvalidArgument

__all__ = ["BUILT_IN", "COMMON", "FACILITIES", "check"]

_ROTATION = frozenset({"max-size", "max-file", "compress"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_FLOW = frozenset({"mode", "max-buffer-size"})
_SYSLOG = frozenset({
    "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert",
    "syslog-tls-key", "syslog-tls-skip-verify",
})  # fmt: skip
COMMON = _FLOW | _ATTRIBUTES | _CACHE
"""What every driver has that sends lines elsewhere."""
BUILT_IN: Mapping[str, frozenset[str]] = {
    "json-file": _ROTATION | _ATTRIBUTES | _FLOW,
    "local": _ROTATION | _ATTRIBUTES | _FLOW,
    "journald": COMMON,
    "syslog": COMMON | _SYSLOG,
    "none": _FLOW,
}
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
)  # fmt: skip
_FORMATS = ("rfc3164", "rfc5424", "rfc5424micro")
_TRANSPORTS = ("udp", "tcp", "tcp+tls")
_SIZE = re.compile(r"-1|\d+[bkmg]?b?", re.IGNORECASE)
_MOST_FILES = 500


def check(driver: str, options: Mapping[str, str], known: frozenset[str]) -> None:
    """InvalidArgument."""
    for name, value in options.items():
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise InvalidArgument(
                f"log option {name!r}: unknown to {driver}", hint=f"there is {there}"
            )
        wrong = next((test(value) for names, test in _TESTS if name in names), "")
        if wrong:
            raise InvalidArgument(f"log option {value!r}: {name} {wrong}")
    if "max-buffer-size" in options and options.get("mode") != "non-blocking":
        raise InvalidArgument("log option max-buffer-size: is for mode=non-blocking")
    for one, other in (("cert", "key"), ("key", "cert")):
        if options.get(f"syslog-tls-{one}") and not options.get(f"syslog-tls-{other}"):
            raise InvalidArgument(f"log option syslog-tls-{one}: needs syslog-tls-{other}, too")


def _size(text: str) -> str:
    return "" if _SIZE.fullmatch(text) else "is not a size such as 10m"


def _files(text: str) -> str:
    good = text.isdecimal() and 1 <= int(text) <= _MOST_FILES
    return "" if good else f"must be 1 to {_MOST_FILES}"


def _boolean(text: str) -> str:
    return "" if text in ("true", "false") else "must be true or false"


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return ""


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: "" if text in words else f"must be one of {', '.join(filter(None, words))}"


def _facility(text: str) -> str:
    good = text in FACILITIES or (text.isdecimal() and int(text) < len(FACILITIES))
    return "" if good else "must be a number to 23, or a name such as daemon or local0"


def _address(text: str) -> str:
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        port = 0
    if url.scheme in ("unix", "unixgram") and url.path.startswith("/") and not url.netloc:
        return "" if Path(url.path).exists() else "has no socket there"
    if url.scheme in _TRANSPORTS and url.hostname and port != 0:
        return ""
    return "must be as udp://HOST:PORT, tcp://, tcp+tls://, unix:///PATH or unixgram:///PATH"


def _file(text: str) -> str:
    return "" if Path(text).is_absolute() and Path(text).is_file() else "is not a file's whole path"


_TESTS: tuple[tuple[tuple[str, ...], Callable[[str], str]], ...] = (
    (("max-size", "cache-max-size", "max-buffer-size"), _size),
    (("max-file", "cache-max-file"), _files),
    (("compress", "cache-compress", "cache-disabled"), _boolean),
    (("labels-regex", "env-regex"), _pattern),
    (("mode",), _one_of("blocking", "non-blocking")),
    (("syslog-format",), _one_of(*_FORMATS)),
    (("syslog-facility",), _facility),
    (("syslog-address",), _address),
    (("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"), _file),
)
