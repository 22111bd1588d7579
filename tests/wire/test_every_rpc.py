"""Nothing of the API was left out: what this run's plain client has asked, and how it ended.

It looks back at the tests of ``api/`` and at those listed below; without all of them it is skipped.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.grpc_client import DRIVEN, RPCS, SERVICES, Client, Driven

pytestmark = pytest.mark.root
HERE = Path(__file__).parent
PARTS = {
    *(HERE / "api").glob("test_*.py"),
    *(HERE / f"test_{n}.py" for n in ("checkpoints", "mounts_service", "sandboxes", "transfer")),
}
# the whole daemon's: there is no other namespace to look from
GLOBAL = {"introspection", "namespaces", "version"}
UNSCOPED = {*((noun, None) for noun in GLOBAL), ("events", "Forward"), ("events", "Subscribe")}
GONE, THERE, STATE, BAD = "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT"
RANGE, AWAY, NOT_HERE, DENIED = "OUT_OF_RANGE", "UNAVAILABLE", "UNIMPLEMENTED", "PERMISSION_DENIED"
# beside OK, and FAILED_PRECONDITION for a missing namespace
CODES = {
    "containers": {
        "Get": {GONE}, "List": {BAD}, "ListStream": {BAD}, "Create": {THERE, BAD},
        "Update": {GONE, BAD}, "Delete": {GONE},
    },
    "content": {
        "Info": {GONE, BAD}, "Update": {GONE, BAD}, "List": {BAD}, "Delete": {GONE, BAD},
        "Read": {GONE, BAD, RANGE}, "Status": {GONE}, "ListStatuses": {BAD}, "Abort": {GONE},
        "Write": {GONE, THERE, BAD, RANGE, AWAY},
    },
    "controller": {
        "Create": {THERE, GONE, BAD}, "Start": {GONE, BAD}, "Platform": {GONE, BAD},
        "Stop": set(), "Wait": {GONE, BAD}, "Status": {GONE, BAD}, "Shutdown": {GONE, BAD},
        "Metrics": {GONE, BAD}, "Update": {GONE, BAD},
    },
    "diff": {"Apply": {GONE, BAD, NOT_HERE}, "Diff": {GONE, NOT_HERE}},
    "events": {"Publish": {BAD}, "Forward": {BAD}, "Subscribe": {BAD}},
    "images": {
        "Get": {GONE}, "List": {BAD}, "Create": {THERE, BAD}, "Update": {GONE, BAD},
        "Delete": {GONE},
    },
    "introspection": {"Plugins": {BAD}, "Server": set(), "PluginInfo": {GONE, BAD, NOT_HERE}},
    "leases": {
        "Create": {THERE, BAD}, "Delete": {GONE}, "List": {BAD}, "ListResources": {GONE},
        "AddResource": {GONE, BAD, NOT_HERE}, "DeleteResource": {GONE, BAD, NOT_HERE},
    },
    "mounts": {
        "Activate": {THERE, GONE, BAD, DENIED, NOT_HERE}, "Deactivate": {GONE}, "Info": {GONE},
        "Update": {GONE, BAD}, "List": {BAD},
    },
    "namespaces": {
        "Get": {BAD}, "List": set(), "Create": {THERE, BAD}, "Update": {GONE, BAD},
        "Delete": {GONE, STATE},
    },
    "snapshots": {
        "Prepare": {GONE, THERE, BAD, STATE}, "View": {GONE, THERE, BAD, STATE},
        "Mounts": {GONE, BAD}, "Commit": {GONE, THERE, BAD}, "Remove": {GONE, BAD},
        "Stat": {GONE, BAD}, "Update": {GONE, BAD}, "List": {BAD}, "Usage": {GONE, BAD},
        "Cleanup": {BAD},
    },
    "store": {
        "Create": {THERE, BAD}, "Update": {GONE, BAD}, "Delete": {GONE}, "List": {BAD},
        "Get": {GONE},
    },
    "streaming": {"Stream": {THERE, BAD}},
    "tasks": {
        "Create": {GONE, THERE, BAD}, "Start": {GONE}, "Delete": {GONE},
        "DeleteProcess": {GONE}, "Get": {GONE}, "List": set(), "Kill": {GONE},
        "Exec": {GONE, THERE, BAD}, "ResizePty": {GONE}, "CloseIO": {GONE}, "Pause": {GONE},
        "Resume": {GONE}, "ListPids": {GONE}, "Checkpoint": {GONE}, "Update": {GONE, BAD},
        "Metrics": {BAD}, "Wait": {GONE, "DEADLINE_EXCEEDED"},
    },
    "transfer": {"Transfer": {GONE, BAD, AWAY, NOT_HERE}},
    "version": {"Version": set()},
}  # fmt: skip


@pytest.fixture(scope="module")
def driven(request: pytest.FixtureRequest) -> dict[tuple[str, str], set[Driven]]:
    run = {item.path for item in request.session.items}
    if PARTS - run or request.config.option.keyword or any("::" in a for a in request.config.args):
        pytest.skip("looks back at tests that were not all chosen")
    found = defaultdict(set)
    for call in DRIVEN:
        found[call.noun, call.rpc].add(call)
    return found


def test_the_table_has_every_rpc() -> None:
    assert {(noun, rpc) for noun, rpcs in CODES.items() for rpc in rpcs} == set(RPCS)


@pytest.mark.parametrize(("noun", "rpc"), RPCS)
def test_it_was_driven(driven: dict[tuple[str, str], set[Driven]], noun: str, rpc: str) -> None:
    calls = driven[noun, rpc]
    scoped = not UNSCOPED & {(noun, None), (noun, rpc)}
    # a subscription goes on until its client leaves
    success = "CANCELLED" if rpc == "Subscribe" else "OK"
    wanted = {success, *CODES[noun][rpc], *({STATE} if scoped else ())}
    assert wanted <= {call.code for call in calls}
    if scoped:
        assert any(call.elsewhere for call in calls), "seen from another namespace"
    if "filters" in _fields(noun, rpc):
        assert any(call.filtered for call in calls), "asked with a filter"


def _fields(noun: str, rpc: str) -> set[str]:
    with Client(Path("/nowhere"), "x") as client:
        return set(getattr(getattr(client, noun), rpc).request.DESCRIPTOR.fields_by_name)


def test_services_are_those_of_the_api() -> None:
    assert CODES.keys() == SERVICES.keys()
