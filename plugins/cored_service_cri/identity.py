"""Who a container runs as: the pod's word over the image's, by the image's own files."""

from __future__ import annotations

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument
from cored.oci import users
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
    entry, groups = users.entry(name, users.rows(passwd, 4)), users.rows(group, 3)
    if entry is None and not name.isdecimal():
        raise InvalidArgument(f"user {name!r}: is not in the image's /etc/passwd")
    uid = int(entry[2]) if entry else int(name)
    gid = int(entry[3]) if entry else 0
    if context.HasField("run_as_group"):
        gid = context.run_as_group.value
    elif group_name:
        gid = users.groups((group_name,), lambda path: group)[0]
    more: list[int] = []
    if context.supplemental_groups_policy == pb.Merge and entry:
        more = [int(r[2]) for r in groups if len(r) > 3 and entry[0] in r[3].split(",")]
    more += context.supplemental_groups
    return User(uid, gid, tuple(dict.fromkeys([gid, *more])))
