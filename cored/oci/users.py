"""Users by the container's own /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cored.errors import InvalidArgument

__all__ = ["IdRange", "User", "entry", "groups", "resolve", "rows", "simple", "subordinate"]

_HIGHEST = 2**32 - 2


@dataclass(frozen=True, slots=True)
class User:
    """Who a process runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of the host, for those from 0 in a user namespace."""

    first: int
    count: int


def subordinate(name: str, uid: int | None, text: str) -> list[IdRange]:
    """The ranges that a file such as /etc/subuid gives to a user (subuid(5))."""
    found = []
    for line in text.splitlines():
        owner, *numbers = line.strip().split(":")
        if owner in (name, str(uid)) and len(numbers) == 2 and all(map(str.isdecimal, numbers)):
            found.append(IdRange(int(numbers[0]), int(numbers[1])))
    return found


def groups(wanted: Sequence[str], read: Callable[[str], str]) -> tuple[int, ...]:
    """Groups by number or name. ``read`` as for :func:`resolve`. InvalidArgument."""
    names: dict[str, str] = {}
    if not all(map(str.isdecimal, wanted)):
        names = {row[0]: row[2] for row in rows(read("/etc/group"), 3)}
    for name in wanted:
        if not name.isdecimal() and name not in names:
            raise InvalidArgument(f"group {name!r}: is not in the image's /etc/group")
    return tuple(_number(name if name.isdecimal() else names[name]) for name in wanted)


def simple(text: str) -> User | None:
    """The user when no file is needed to know: root, or numbers for both; else None."""
    user, colon, group = text.partition(":")
    if text in ("", "root", "0", "0:0", "root:root"):
        return User()
    if colon and user.isdecimal() and group.isdecimal():
        return User(_number(user), _number(group))
    return None


def resolve(text: str, read: Callable[[str], str]) -> User:
    """``user[:group]``, names or numbers. ``read`` answers a file's text, '' where there is none.

    InvalidArgument for names that the files do not know.
    """
    known = simple(text)
    if known is not None:
        return known
    user, _, group = text.partition(":")
    found = entry(user, rows(read("/etc/passwd"), 4))
    if found is None and not user.isdecimal():
        raise InvalidArgument(f"user {user!r}: is not in the image's /etc/passwd")
    name = found[0] if found else ""
    uid = _number(found[2] if found else user)
    if group:
        return User(uid, groups((group,), read)[0])
    gid = int(found[3]) if found else 0
    there = rows(read("/etc/group"), 3)
    member = [int(row[2]) for row in there if len(row) > 3 and name and name in row[3].split(",")]
    return User(uid, gid, tuple(g for g in member if g != gid))


def entry(name: str, rows: Sequence[Sequence[str]]) -> Sequence[str] | None:
    """The row of a name or of a number. A number is one: not a user who is called like it."""
    column, wanted = (2, str(_number(name))) if name.isdecimal() else (0, name)
    return next((row for row in rows if row[column] == wanted), None)


def rows(text: str, numbers: int) -> list[list[str]]:
    """The lines of a file that have all fields up to ``numbers``, which are ids from the third on.

    Others are broken, and passed over.
    """
    found = (line.strip().split(":") for line in text.splitlines())
    return [row for row in found if len(row) >= numbers and all(map(_is_id, row[2:numbers]))]


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10 and int(text) <= _HIGHEST


def _number(text: str) -> int:
    if not _is_id(text):
        raise InvalidArgument(f"user id {text}: out of range")
    return int(text)
