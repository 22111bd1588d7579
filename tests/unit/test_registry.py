"""What the registry client makes of headers and errors."""

from __future__ import annotations

import asyncio
import threading
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from cored.archive.http import reason, shown
from cored.archive.jobs import Route
from cored.archive.routes import retry_after
from cored.engine.registry import Access, Credentials, keyring, known_user
from cored.engine.registry.aside import aside
from cored.engine.registry.auth import challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        ("Basic", {"basic": {}}),
        ('Basic realm="a, b"', {"basic": {"realm": "a, b"}}),
        (
            'Bearer realm="https://t/x?a=b",service=s , scope="repository:a/b:pull,push"',
            {
                "bearer": {
                    "realm": "https://t/x?a=b",
                    "service": "s",
                    "scope": "repository:a/b:pull,push",
                }
            },
        ),
        (
            r'Negotiate, BASIC Realm="q\"uote", bearer realm="r",error="invalid_token"',
            {
                "negotiate": {},
                "basic": {"realm": 'q"uote'},
                "bearer": {"realm": "r", "error": "invalid_token"},
            },
        ),
    ],
)
def test_challenges_are_read(header: str, found: dict[str, dict[str, str]]) -> None:
    assert challenges(header) == found


def answer(**headers: str) -> Any:
    return SimpleNamespace(headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_wish_to_be_left_alone_is_read() -> None:
    assert retry_after(answer()) is None
    assert retry_after(answer(Retry_After="120")) == 120.0
    assert retry_after(answer(Retry_After="soon")) is None
    assert retry_after(answer(Retry_After=formatdate(0, usegmt=True))) == 0.0
    later = retry_after(answer(Retry_After=formatdate(4102444800, usegmt=True)))
    assert later is not None
    assert later > 1e6


def test_secrets_are_cut_out_of_urls_and_reasons() -> None:
    url = "https://me:pass@s3.example/blob?X-Amz-Signature=abc&X-Amz-Credential=def"
    assert shown(url) == "https://s3.example/blob?…"
    error = ProtocolError(f"cannot fetch {url} (really)", OSError(5, "x"))
    assert not {"pass", "abc", "def"} & set(reason(error).replace("=", " ").split())
    broken = ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer"))
    assert reason(broken) == "reset by peer"


def test_secrets_do_not_show_in_values() -> None:
    user = Credentials("me", "pass-word", "tok-en", "head-er")
    access = Access(lambda host: user, headers={"Authorization": "head-er"})
    route = Route("https://x", (("Authorization", "head-er"),))
    for value in (user, known_user(user), keyring({"x": user}), access, route):
        assert not any(each in repr(value) for each in ("pass-word", "tok-en", "head-er"))


async def test_a_blocked_request_holds_nobody_up() -> None:
    """Not even a hundred of them, and they end by themselves."""
    go = threading.Event()
    stuck = [asyncio.ensure_future(aside(go.wait)) for _ in range(100)]
    assert await aside(lambda: "done") == "done"
    for task in stuck[1:]:
        task.cancel()
    go.set()
    assert await stuck[0] is True
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0)
