"""The messages that a shim speaks: ``{name: {number: (field, kind, repeated)}}``.

Kinds: ``str bytes int bool map`` (of strings), or another message's name. From proto/; a test
compares every entry with the generated messages.
"""

from __future__ import annotations

__all__ = ["MESSAGES", "PROTOBUF_NAMES"]

Table = dict[int, tuple[str, str, bool]]


def _table(*fields: str) -> Table:
    """``number name kind``, with ``*`` after the kind where it repeats."""
    table: Table = {}
    for field in fields:
        number, name, kind = field.split()
        table[int(number)] = (name, kind.rstrip("*"), kind.endswith("*"))
    return table


_ID = ("1 id str",)
_EXEC = ("1 id str", "2 exec_id str")

MESSAGES: dict[str, Table] = {
    "map": _table("1 key str", "2 value str"),
    "Any": _table("1 type_url str", "2 value bytes"),
    "Timestamp": _table("1 seconds int", "2 nanos int"),
    "Status": _table("1 code int", "2 message str"),
    "KeyValue": _table("1 key str", "2 value str"),
    "Request": _table(
        "1 service str", "2 method str", "3 payload bytes", "4 timeout_nano int",
        "5 metadata KeyValue*",
    ),
    "Response": _table("1 status Status", "2 payload bytes"),
    "Mount": _table("1 type str", "2 source str", "3 target str", "4 options str*"),
    "CreateTaskRequest": _table(
        "1 id str", "2 bundle str", "3 rootfs Mount*", "4 terminal bool", "5 stdin str",
        "6 stdout str", "7 stderr str", "8 checkpoint str", "9 parent_checkpoint str",
        "10 options Any",
    ),
    "CreateTaskResponse": _table("1 pid int"),
    "DeleteRequest": _table(*_EXEC),
    "DeleteResponse": _table("1 pid int", "2 exit_status int", "3 exited_at Timestamp"),
    "ExecProcessRequest": _table(
        *_EXEC, "3 terminal bool", "4 stdin str", "5 stdout str", "6 stderr str", "7 spec Any"
    ),
    "ExecProcessResponse": {},
    "ResizePtyRequest": _table(*_EXEC, "3 width int", "4 height int"),
    "JoinRequest": _table(*_EXEC, "3 stdout str", "4 stderr str"),
    "StateRequest": _table(*_EXEC),
    "StateResponse": _table(
        "1 id str", "2 bundle str", "3 pid int", "4 status int", "5 stdin str", "6 stdout str",
        "7 stderr str", "8 terminal bool", "9 exit_status int", "10 exited_at Timestamp",
        "11 exec_id str",
    ),
    "KillRequest": _table(*_EXEC, "3 signal int", "4 all bool"),
    "CloseIORequest": _table(*_EXEC, "3 stdin bool"),
    "PidsRequest": _table(*_ID),
    "ProcessInfo": _table("1 pid int", "2 info Any"),
    "ProcessDetails": _table("1 exec_id str"),
    "PidsResponse": _table("1 processes ProcessInfo*"),
    "CheckpointTaskRequest": _table("1 id str", "2 path str", "3 options Any"),
    "UpdateTaskRequest": _table("1 id str", "2 resources Any", "3 annotations map*"),
    "StartRequest": _table(*_EXEC),
    "StartResponse": _table("1 pid int"),
    "WaitRequest": _table(*_EXEC),
    "WaitResponse": _table("1 exit_status int", "2 exited_at Timestamp"),
    "StatsRequest": _table(*_ID),
    "StatsResponse": _table("1 stats Any"),
    "ConnectRequest": _table(*_ID),
    "ConnectResponse": _table("1 shim_pid int", "2 task_pid int", "3 version str"),
    "ShutdownRequest": _table("1 id str", "2 now bool"),
    "PauseRequest": _table(*_ID),
    "ResumeRequest": _table(*_ID),
    "Empty": {},
    "Options": _table(
        "1 no_pivot_root bool", "2 no_new_keyring bool", "3 shim_cgroup str", "4 io_uid int",
        "5 io_gid int", "6 binary_name str", "7 root str", "9 systemd_cgroup bool",
        "10 criu_image_path str", "11 criu_work_path str",
    ),
    "CheckpointOptions": _table(
        "1 exit bool", "2 open_tcp bool", "3 external_unix_sockets bool", "4 terminal bool",
        "5 file_locks bool", "6 empty_namespaces str*", "7 cgroups_mode str", "8 image_path str",
        "9 work_path str", "10 parent_path str",
    ),
    "Envelope": _table("1 timestamp Timestamp", "2 namespace str", "3 topic str", "4 event Any"),
    "ForwardRequest": _table("1 envelope Envelope"),
    "TaskIO": _table("1 stdin str", "2 stdout str", "3 stderr str", "4 terminal bool"),
    "TaskCreate": _table(
        "1 container_id str", "2 bundle str", "3 rootfs Mount*", "4 io TaskIO", "5 checkpoint str",
        "6 pid int",
    ),
    "TaskStart": _table("1 container_id str", "2 pid int"),
    "TaskDelete": _table(
        "1 container_id str", "2 pid int", "3 exit_status int", "4 exited_at Timestamp", "5 id str"
    ),
    "TaskExit": _table(
        "1 container_id str", "2 id str", "3 pid int", "4 exit_status int", "5 exited_at Timestamp"
    ),
    "CreateSandboxRequest": _table(
        "1 sandbox_id str", "2 bundle_path str", "3 rootfs Mount*", "4 options Any",
        "5 netns_path str", "6 annotations map*",
    ),
    "SandboxRequest": _table("1 sandbox_id str"),
    "StartSandboxResponse": _table("1 pid int", "2 created_at Timestamp", "3 spec Any"),
    "Platform": _table("1 os str", "2 architecture str", "3 variant str"),
    "PlatformResponse": _table("1 platform Platform"),
    "SandboxStatusResponse": _table(
        "1 sandbox_id str", "2 pid int", "3 state str", "4 info map*", "5 created_at Timestamp",
        "6 exited_at Timestamp", "7 extra Any",
    ),
    "Metric": _table("1 timestamp Timestamp", "2 id str", "3 data Any"),
    "SandboxMetricsResponse": _table("1 metrics Metric"),
    "RuntimeVersion": _table("1 version str", "2 revision str"),
    "RuntimeInfo": _table(
        "1 name str", "2 version RuntimeVersion", "3 options Any", "4 features Any",
        "5 annotations map*",
    ),
    "TaskOOM": _table("1 container_id str"),
    "TaskExecAdded": _table("1 container_id str", "2 exec_id str"),
    "TaskExecStarted": _table("1 container_id str", "2 exec_id str", "3 pid int"),
    "TaskPaused": _table("1 container_id str"),
    "TaskResumed": _table("1 container_id str"),
}  # fmt: skip

_TASK = "containerd.task.v2"
# where a table's message is not one of the Task service's
PROTOBUF_NAMES = {
    "Any": "google.protobuf.Any",
    "Timestamp": "google.protobuf.Timestamp",
    "Empty": "google.protobuf.Empty",
    "Status": "google.rpc.Status",
    "KeyValue": "ttrpc.KeyValue",
    "Request": "ttrpc.Request",
    "Response": "ttrpc.Response",
    "Mount": "containerd.types.Mount",
    "ProcessInfo": "containerd.v1.types.ProcessInfo",
    "Options": "containerd.runc.v1.Options",
    "CheckpointOptions": "containerd.runc.v1.CheckpointOptions",
    "ProcessDetails": "containerd.runc.v1.ProcessDetails",
    "Envelope": "containerd.types.Envelope",
    "ForwardRequest": "containerd.services.events.ttrpc.v1.ForwardRequest",
    "JoinRequest": "cored.shim.v1.JoinRequest",
    "Platform": "containerd.types.Platform",
    "RuntimeVersion": "containerd.types.RuntimeVersion",
    "RuntimeInfo": "containerd.types.RuntimeInfo",
    "Metric": "containerd.types.Metric",
    "SandboxRequest": "containerd.runtime.sandbox.v1.StartSandboxRequest",
    **{
        name: f"containerd.runtime.sandbox.v1.{name}"
        for name in (
            "CreateSandboxRequest", "StartSandboxResponse", "PlatformResponse",
            "SandboxStatusResponse", "SandboxMetricsResponse",
        )
    },
    **{
        name: f"containerd.events.{name}"
        for name in (
            "TaskOOM", "TaskIO", "TaskCreate", "TaskStart", "TaskDelete", "TaskExit",
            "TaskExecAdded", "TaskExecStarted", "TaskPaused", "TaskResumed",
        )
    },
}  # fmt: skip
