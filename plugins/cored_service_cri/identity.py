"""Who a container runs as: the pod's word over the image's, by the image's own files."""

from __future__ import annotations

from collections.abc import Sequence

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument
from cored.oci.users import User

__all__ = ["resolve"]


def resolve(
    context: pb.LinuxContainerSecurityContext, image_user: str, passwd: str, group: str
) -> User:
    """The user, with its groups; ``passwd`` and ``group`` are the texts of the image's files.

    By the policy Merge a user has the groups that the image's /etc/group gives to its name; by
    Strict it has only those that the pod names. InvalidArgument for names that are not there.
    """
    asked_user = context.HasField("run_as_user") or bool(context.run_as_username)
    if context.HasField("run_as_group") and not asked_user:
        raise InvalidArgument("run_as_group: needs a run_as_user or run_as_username beside it")
    name, _, group_name = ("", "", "") if asked_user else image_user.partition(":")
    if asked_user:
        name = context.run_as_username or str(context.run_as_user.value)
    name = name or "0"
    rows, groups = _rows(passwd, 4), _rows(group, 3)
    entry = next((row for row in rows if name in (row[0], row[2])), None)
    if entry is None and not name.isdecimal():
        raise InvalidArgument(f"user {name!r}: is not in the image's /etc/passwd")
    uid = int(entry[2]) if entry else int(name)
    gid = int(entry[3]) if entry else 0
    if context.HasField("run_as_group"):
        gid = context.run_as_group.value
    elif group_name:
        gid = _gid(group_name, groups)
    more: list[int] = []
    if context.supplemental_groups_policy == pb.Merge and entry:
        more = [int(r[2]) for r in groups if len(r) > 3 and entry[0] in r[3].split(",")]
    more += context.supplemental_groups
    return User(uid, gid, tuple(dict.fromkeys([gid, *more])))


def _gid(name: str, groups: Sequence[Sequence[str]]) -> int:
    found = next((row for row in groups if name in (row[0], row[2])), None)
    if found is None and not name.isdecimal():
        raise InvalidArgument(f"group {name!r}: is not in the image's /etc/group")
    return int(found[2] if found else name)


def _rows(text: str, fields: int) -> list[list[str]]:
    rows = (line.strip().split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= fields and row[2].isdecimal()]
