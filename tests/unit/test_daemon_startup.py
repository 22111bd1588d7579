"""What a daemon imports before it serves: each module is paid at every restart, by all who wait."""

from __future__ import annotations

import subprocess
import sys

# what the plugins of the storage stage are; the daemon finds them by entry point
_PLUGINS = (
    "cored_content_local", "cored_snapshotter_overlay", "cored_snapshotter_native",
    "cored_snapshotter_btrfs",
)  # fmt: skip
_LATER_PLUGINS = (
    "cored_differ_walking", "cored_network_cni", "cored_network_native",
    "cored_service_workloads", "cored_service_workloads.networks",
    "cored_service_workloads.volumes", "cored_service_build", "cored_service_build.plugin",
    "cored_service_cri", "cored_service_cri.imaging",
)  # fmt: skip


def loaded_by(*modules: str) -> set[str]:
    """All modules that a fresh interpreter has after importing these, one after the other."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def within(modules: set[str], *packages: str) -> set[str]:
    return {
        module
        for module in modules
        for package in packages
        if module == package or module.startswith(f"{package}.")
    }


def test_shims_are_looked_for_before_the_server_and_the_database_are_imported() -> None:
    loaded = loaded_by("cored.daemon", "cored_runtime_shim")
    late = within(loaded, "grpc", "sqlite3", "cored.metadata", "cored.services", "cored.engine")
    assert late == set()


def test_the_first_stage_knows_tasks_and_no_more() -> None:
    loaded = loaded_by("cored.daemon", "cored_runtime_shim", "cored.first_stage")
    late = within(
        loaded,
        "sqlite3", "ctypes.util", "cored.archive", "cored.database", "cored.layered", "cored.oci",
        "cored.abc.content", "cored.abc.snapshots", "cored.abc.network", "cored.metadata.store",
        "cored.engine.checkpoints", "cored.services.containers", "cored.storage_stage",
    )  # fmt: skip
    assert late <= {"cored.oci", "cored.oci.values"}
    assert "cored.services.tasks" in loaded


def test_storage_knows_neither_registries_nor_networks_nor_checks() -> None:
    loaded = loaded_by("cored.daemon", *_PLUGINS, "cored.first_stage", "cored.storage_stage")
    late = within(
        loaded,
        "urllib3", "http", "isal", "backports.zstd", "pyroute2", "h2", "click", "rich", "pygments",
        "grpc_reflection.v1alpha", "cored.second_stage", "cored.proxies", "cored.client",
        "cored.cni", "cored.engine.registry", "cored.engine.check", "cored.engine.pull",
        "cored.engine.push",
        "cored.engine.importing", "cored.engine.export", "cored.engine.networks",
        "cored.engine.containers", "cored.services.transfer", "cored.services.stores",
    )  # fmt: skip
    assert late == set()
    assert "cored.services.tasks" in loaded


def test_plugins_of_later_kinds_import_what_they_need_when_they_open() -> None:
    known = loaded_by("cored.daemon", "cored.storage_stage")
    loaded = loaded_by("cored.daemon", "cored.storage_stage", *_LATER_PLUGINS) - known
    assert loaded - within(loaded, "cored.abc") == set(_LATER_PLUGINS)


def test_a_daemon_without_networks_does_without_pyroute2() -> None:
    loaded = loaded_by("cored.second_stage", "cored_network_native.caller")
    assert within(loaded, "pyroute2") == set()
    assert "cored_network_native.bandwidth" in loaded
