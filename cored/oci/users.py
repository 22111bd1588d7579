"""Users by the container's own /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cored.errors import InvalidArgument

__all__ = ["IdRange", "User", "groups", "resolve", "simple", "subordinate"]

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
        names = {row[0]: row[2] for row in _rows(read("/etc/group"), 3)}
    for name in wanted:
        if not name.isdecimal() and name not in names:
            raise InvalidArgument(f"group {name!r}: is not in the image's /etc/group")
    return tuple(_number(names.get(name, name)) for name in wanted)


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
    entry = next((row for row in _rows(read("/etc/passwd"), 4) if user in (row[0], row[2])), None)
    if entry is None and not user.isdecimal():
        raise InvalidArgument(f"user {user!r}: is not in the image's /etc/passwd")
    name = entry[0] if entry else ""
    uid = _number(entry[2] if entry else user)
    gid = _number(entry[3]) if entry else 0
    rows = _rows(read("/etc/group"), 3)
    if group:
        found = next((row for row in rows if group in (row[0], row[2])), None)
        if found is None and not group.isdecimal():
            raise InvalidArgument(f"group {group!r}: is not in the image's /etc/group")
        return User(uid, _number(found[2] if found else group))
    member = [int(row[2]) for row in rows if len(row) > 3 and name and name in row[3].split(",")]
    return User(uid, gid, tuple(g for g in member if g != gid))


def _rows(text: str, fields: int) -> list[list[str]]:
    """The lines of a file with at least so many fields; others are broken and passed over."""
    rows = (line.strip().split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= fields and row[2].isdecimal()]


def _number(text: str) -> int:
    number = int(text)
    if number > _HIGHEST:
        raise InvalidArgument(f"user id {text}: out of range")
    return number
