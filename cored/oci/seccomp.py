"""The default seccomp filter: what is not listed fails with EPERM (runtime-spec, linux.seccomp).

The rules follow docker's default profile in effect: the system calls that programs need, without
those that reach into the kernel or into other processes; a capability brings its own back.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

__all__ = ["ARCHITECTURES", "profile"]

_EPERM, _ENOSYS = 1, 38

_ALWAYS = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents
getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64
statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
riscv_hwprobe
"""
# before this kernel a traced process could get around its filter
_TRACING, _TRACING_SINCE = "process_vm_readv process_vm_writev ptrace", (4, 8)
_ARM = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
_BY_ARCHITECTURE = {
    "amd64": "arch_prctl modify_ldt",
    "386": "modify_ldt",
    "arm": _ARM,
    "arm64": _ARM,
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}
_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie"
        " lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount"
        " open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog"
        " umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": f"kcmp pidfd_getfd process_madvise {_TRACING}",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
# the native one first, then those that its kernels run too; amd64's x32, which hardly any kernel
# has, doubles what the filter costs at each start of a container
ARCHITECTURES = {
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "mips64": ["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
    "mips64le": ["SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "loong64": ["SCMP_ARCH_LOONGARCH64"],
}
# clone(2) flags that make namespaces: user, pid, net, ipc, uts, cgroup, mount
_NAMESPACE_FLAGS = 0x7E020000
# personality(2): Linux, UNAME26, 32 bit, both, and the question which it is
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# the kernel's ciphers, with a history of holes, and the hypervisor's sockets, beyond all namespaces
_AF_ALG, _AF_VSOCK = 38, 40


def profile(
    capabilities: Collection[str],
    architecture: str = "amd64",
    kernel: tuple[int, int] = (6, 0),
    *,
    x32: bool = False,
) -> dict[str, Any]:
    """``linux.seccomp`` for a container with these capabilities; architecture in Go's words.

    ``x32``: the kernel may run programs of that ABI, which is amd64's. One document for all that
    ask the same: to be read only.
    """
    return _profile(frozenset(capabilities), architecture, kernel, x32)


@lru_cache(maxsize=16)
def _profile(
    capabilities: frozenset[str], architecture: str, kernel: tuple[int, int], x32: bool
) -> dict[str, Any]:
    names = set(_ALWAYS.split()) | set(_BY_ARCHITECTURE.get(architecture, "").split())
    if kernel >= _TRACING_SINCE:
        names |= set(_TRACING.split())
    for capability, more in _BY_CAPABILITY.items():
        if capability in capabilities:
            names |= set(more.split())
    rules: list[dict[str, Any]] = [
        {"names": sorted(names), "action": "SCMP_ACT_ALLOW"},
        *(_rule("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES),
        _rule("socket", 0, _AF_ALG, "SCMP_CMP_LT"),
        _rule("socket", 0, _AF_ALG + 1, "SCMP_CMP_EQ"),
        _rule("socket", 0, _AF_VSOCK, "SCMP_CMP_GT"),
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags = 1 if architecture == "s390x" else 0  # that kernel takes them second
        rules.append(_rule("clone", flags, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ"))
        # its flags are behind a pointer: ENOSYS lets C libraries fall back to clone
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    filter: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "syscalls": rules,
    }
    if architecture in ARCHITECTURES:
        filter["architectures"] = list(ARCHITECTURES[architecture])
        if x32 and architecture == "amd64":
            filter["architectures"] += ["SCMP_ARCH_X32"]
    return filter


def _rule(name: str, index: int, value: int, comparison: str) -> dict[str, Any]:
    argument = {"index": index, "value": value, "op": comparison}
    if comparison == "SCMP_CMP_MASKED_EQ":
        argument["valueTwo"] = 0
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
