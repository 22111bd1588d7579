"""What deploy/kubernetes and deploy/systemd say is true of this daemon."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from cored_network_native.caller import KINDS
from cored_service_cri import usage

from cored.cni import lists
from cored.config import Config

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
ENDPOINT = "unix:///run/cored/cored.sock"


def _documents(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((KUBERNETES / name).read_text()) if one]


def test_the_unit_lets_pods_outlive_the_daemon_and_gives_it_its_cgroups() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd/cored.service")
    service = unit["Service"]
    wanted = {"KillMode": "process", "Delegate": "yes", "Type": "notify", "Restart": "always"}
    assert {key: service[key] for key in wanted} == wanted
    # a mount namespace of its own would take the containers' mounts along when it ends
    assert not {"PrivateMounts", "MountFlags", "PrivateTmp", "ProtectSystem"} & set(service)
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_kubelet_and_crictl_speak_to_the_daemons_socket() -> None:
    (kubelet,) = _documents("kubelet.conf.d/20-cored.conf")
    assert kubelet["kind"] == "KubeletConfiguration"
    assert kubelet["containerRuntimeEndpoint"] == ENDPOINT
    assert kubelet["cgroupDriver"] == "systemd"
    (crictl,) = _documents("crictl.yaml")
    assert crictl["runtime-endpoint"] == crictl["image-endpoint"] == ENDPOINT
    assert f"unix://{Config().address}" == ENDPOINT


def test_runtime_classes_name_runtimes_that_there_may_be() -> None:
    classes = _documents("runtimeclasses.yaml")
    assert {one["kind"] for one in classes} == {"RuntimeClass"}
    handlers = {one["metadata"]["name"]: one["handler"] for one in classes}
    assert handlers == {"runc": "runc", "crun": "crun", "gvisor": "runsc"}


def test_the_network_is_one_that_is_built_in_whole() -> None:
    network = lists.parse((KUBERNETES / "10-cored.conflist").read_text())
    for plugin in network.plugins:
        assert KINDS[plugin["type"]].takes(plugin), plugin["type"]
    subnet = network.plugins[0]["ipam"]["ranges"][0][0]["subnet"]
    # kubeadm is told the same
    assert f"--pod-network-cidr {subnet}" in (KUBERNETES / "README.md").read_text()


def test_the_settings_of_the_notes_are_read_by_somebody() -> None:
    text = (KUBERNETES / "README.md").read_text()
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    start = next(n for n, line in enumerate(lines) if line.startswith("[plugins.grpc_service.cri]"))
    settings = tomllib.loads("\n".join(lines[start:]))["plugins"]
    assert usage.by_handler(settings["grpc_service"]["cri"]) == {"gvisor": "native"}
    sources = "".join(path.read_text() for path in Path(usage.__file__).parent.rglob("*.py"))
    for table in settings["grpc_service"].values():
        for key in table:
            assert re.search(rf'"{key}"', sources), key
    for name in re.findall(r"`(\w[\w./-]*\.(?:yaml|conf|conflist|service))`", text):
        assert (KUBERNETES / name).exists() or (DEPLOY.parent / name).exists(), name
