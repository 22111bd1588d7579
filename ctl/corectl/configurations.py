"""What a container was asked to be, in the form that docker's inspect has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from corectl import output
from corectl.care import EVER
from corectl.published import numbers

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["container_config", "host_config"]


def container_config(
    config: pb.ContainerConfig, one: pb.Container, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """``Config``: what goes on in it."""
    process = spec.get("process", {})
    stdin = "stdin" in config.attached
    found: dict[str, Any] = {
        "Hostname": spec.get("hostname", config.hostname),
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": stdin,
        "AttachStdout": "stdout" in config.attached,
        "AttachStderr": "stderr" in config.attached,
        "ExposedPorts": _exposed(config) or None,
        "Tty": config.terminal,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.open_stdin and stdin,
        "Env": _environment(config, spec),
        "Cmd": list(config.args) or None,
        "Image": config.image,
        "Volumes": {one.target: {} for one in config.volumes if not one.name} or None,
        "WorkingDir": process.get("cwd", config.working_directory),
        "Entrypoint": list(config.entrypoint.args) if config.HasField("entrypoint") else None,
        "Labels": dict(sorted(one.labels.items())),
        "StopSignal": config.stop_signal,
        "StopTimeout": _stop_timeout(config),
    }
    if config.HasField("health"):
        check = config.health
        times = {
            "Interval": check.interval,
            "Timeout": check.timeout,
            "StartPeriod": check.start_period,
            "StartInterval": check.start_interval,
            "Retries": check.retries,
        }
        given = {name: value for name, value in times.items() if value}
        unset = dict.fromkeys(times, 0)
        found["Healthcheck"] = output.Fields({"Test": list(check.test), **given}, unset)
    return found


def _stop_timeout(config: pb.ContainerConfig) -> int | None:
    if not config.HasField("stop_timeout"):
        return None
    return -1 if config.stop_timeout == EVER else config.stop_timeout


def _exposed(config: pb.ContainerConfig) -> dict[str, Any]:
    found = [f"{port.container}/{port.protocol or 'tcp'}" for port in config.ports]
    found += [f"{port}/{protocol}" for port, protocol in numbers(config.exposed)]
    return {port: {} for port in sorted(found)}


def _environment(config: pb.ContainerConfig, spec: Mapping[str, Any]) -> list[str]:
    """Its own first, then the image's; not what every container gets."""
    process = spec.get("process", {})
    own = {entry.partition("=")[0] for entry in config.env}
    given = {f"HOSTNAME={spec.get('hostname', '')}", "TERM=xterm"}
    rest = [
        entry
        for entry in process.get("env", ())
        if entry.partition("=")[0] not in own and entry not in given
    ]
    return [*config.env, *rest]


def host_config(
    config: pb.ContainerConfig, runtime: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """``HostConfig``: what it has of the host."""
    linux = spec.get("linux", {})
    kinds = {one["type"] for one in linux.get("namespaces", ())}
    return {
        "Binds": _binds(config) or None,
        "NetworkMode": config.network or "bridge",
        "PortBindings": _bindings(config),
        "PublishAllPorts": config.publish_all,
        "RestartPolicy": {
            "Name": config.restart.name or "no",
            "MaximumRetryCount": config.restart.maximum,
        },
        "AutoRemove": config.auto_remove,
        "LogConfig": {
            "Type": config.logging.driver or "json-file",
            "Config": dict(sorted(config.logging.options.items())),
        },
        "VolumeDriver": next((one.driver for one in config.volumes if one.driver), ""),
        "VolumesFrom": list(config.volumes_from) or None,
        "CapAdd": list(config.cap_add) or None,
        "CapDrop": list(config.cap_drop) or None,
        "CgroupnsMode": "private" if "cgroup" in kinds else "host",
        "Dns": list(config.dns.servers),
        "DnsOptions": list(config.dns.options),
        "DnsSearch": list(config.dns.search),
        "ExtraHosts": list(config.extra_hosts) or None,
        "GroupAdd": list(config.groups) or None,
        "IpcMode": config.namespaces.ipc or "private",
        "Links": list(config.links) or None,
        "OomScoreAdj": config.oom_score_adj,
        "PidMode": config.namespaces.pid,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": _security(config.security) or None,
        "StorageOpt": dict(config.storage_options) or None,
        "Tmpfs": {one.target: one.options for one in config.tmpfs} or None,
        "UTSMode": config.namespaces.uts,
        "UsernsMode": config.namespaces.user,
        "ShmSize": config.shm_size or 64 << 20,
        "Sysctls": dict(sorted(config.sysctls.items())) or None,
        "Runtime": runtime,
        "Isolation": "",
        **_limits(config),
        "Init": config.init or None,
        "MaskedPaths": linux.get("maskedPaths"),
        "ReadonlyPaths": linux.get("readonlyPaths"),
    }


def _limits(config: pb.ContainerConfig) -> dict[str, Any]:
    limits = config.resources
    swappy = limits.memory_swappiness if limits.HasField("memory_swappiness") else None
    swap = limits.memory_swap or 2 * limits.memory_limit
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory_limit,
        "NanoCpus": limits.nano_cpus,
        "CgroupParent": config.cgroup_parent,
        "BlkioWeight": limits.blkio_weight,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpuRealtimePeriod": limits.cpu_rt_period,
        "CpuRealtimeRuntime": limits.cpu_rt_runtime,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [_device(one) for one in config.devices],
        "DeviceCgroupRules": list(config.device_cgroup_rules) or None,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": swap,
        "MemorySwappiness": swappy,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids_limit or None,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in config.ulimits]
        or None,
    }


def _device(one: pb.Device) -> dict[str, str]:
    return {
        "PathOnHost": one.source,
        "PathInContainer": one.target or one.source,
        "CgroupPermissions": one.permissions or "rwm",
    }


def _binds(config: pb.ContainerConfig) -> list[str]:
    named = [one for one in config.volumes if one.name]
    found = [f"{v.name}:{v.target}{':ro' if v.read_only else ''}" for v in named]
    return found + [f"{b.source}:{b.target}{':ro' if b.read_only else ''}" for b in config.mounts]


def _bindings(config: pb.ContainerConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for port in config.ports:
        there = {"HostIp": port.host_ip, "HostPort": str(port.host) if port.host else ""}
        found.setdefault(f"{port.container}/{port.protocol or 'tcp'}", []).append(there)
    return found


def _security(given: pb.Security) -> list[str]:
    found = ["no-new-privileges"] if given.no_new_privileges else []
    found += [f"seccomp={given.seccomp}"] if given.seccomp else []
    found += [f"apparmor={given.apparmor}"] if given.apparmor else []
    found += [f"label={label}" for label in given.labels]
    return [*found, *(["systempaths=unconfined"] if given.unmasked else [])]
