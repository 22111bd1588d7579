"""containerd.services.events.v1.Events"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.grpc_client import Client, kept, message, only_cored, opened

EVENT = kept("containerd.events.TaskOOM", b"\x0a\x01c")


def publish(api: Client, topic: str, event: Any = EVENT) -> None:
    api.events.Publish(topic=topic, event=event)


def envelope(**fields: Any) -> dict[str, Any]:
    return {
        "timestamp": {"seconds": 1_000_000_000, "nanos": 7},
        "namespace": "elsewhere",
        "topic": "/forwarded/by-hand",
        "event": EVENT,
        **fields,
    }


def test_what_is_published_arrives_with_its_time_and_namespace(api: Client) -> None:
    before = time.time_ns()
    with api.watching() as seen:
        publish(api, "/a/b.c-d_e")
    (found,) = seen.envelopes
    assert (found.topic, found.namespace, found.event) == ("/a/b.c-d_e", api.namespace, EVENT)
    assert before <= found.timestamp.ToNanoseconds() <= time.time_ns()


def test_what_is_forwarded_arrives_as_it_is(api: Client, nobody: Client) -> None:
    with api.watching("namespace==elsewhere") as seen:
        nobody.events.Forward(envelope=envelope())
    (found,) = seen.envelopes
    assert (found.topic, found.namespace, found.event) == (
        "/forwarded/by-hand",
        "elsewhere",
        EVENT,
    )
    assert found.timestamp.ToNanoseconds() == 1_000_000_000_000_000_007


@only_cored  # 1.6 wants to know the type
def test_events_of_unknown_types_pass(api: Client) -> None:
    strange = kept("not.known/Here", b"\xff\x00")
    with api.watching() as seen:
        publish(api, "/a", strange)
        publish(api, "/b", kept("containerd.events.TaskOOM", b"\xff"))
    assert [e.event.value for e in seen.envelopes] == [b"\xff\x00", b"\xff"]


def test_order_is_kept(api: Client) -> None:
    with api.watching() as seen:
        for number in range(300):
            publish(api, f"/n/{number}")
    assert seen.topics == [f"/n/{number}" for number in range(300)]


@pytest.mark.parametrize(
    "topic",
    ["", "/", "a/b", "/a/", "//a", "/a//b", "/a b", "/-a", "/a/" + "x" * 77, "/ä", "/a\n"],
)
def test_bad_topics_are_refused(api: Client, topic: str) -> None:
    with api.refused("INVALID_ARGUMENT", "topic"):
        publish(api, topic)
    with api.refused("INVALID_ARGUMENT", "topic"):
        api.events.Forward(envelope=envelope(topic=topic))


@pytest.mark.parametrize("namespace", ["", "a/b", "-", "x" * 77])
def test_bad_namespaces_are_refused(api: Client, nobody: Client, namespace: str) -> None:
    with api.refused("INVALID_ARGUMENT", "namespace"):
        nobody.events.Forward(envelope=envelope(namespace=namespace))


def test_publishing_needs_a_namespace(nobody: Client) -> None:
    with nobody.refused("FAILED_PRECONDITION", "namespace"):
        publish(nobody, "/a")


@only_cored  # 1.6 takes the beginning of 1970 for a time
def test_forwarded_events_need_a_time(api: Client) -> None:
    bare = envelope()
    del bare["timestamp"]
    with api.refused("INVALID_ARGUMENT", "timestamp"):
        api.events.Forward(envelope=bare)


@only_cored  # containerd passes on what nobody can read
def test_forwarded_times_are_dates(api: Client) -> None:
    for bad in ({"seconds": 2**62}, {"seconds": -(2**62)}, {"nanos": -1}, {"nanos": 10**9}):
        with api.refused("INVALID_ARGUMENT", "timestamp"):
            api.events.Forward(envelope=envelope(timestamp=bad))
    with api.refused("INVALID_ARGUMENT"):
        api.events.Forward()


def test_bad_filters_are_refused(api: Client) -> None:
    for bad in ("topic=", "==", 'topic=="'):
        with api.refused("INVALID_ARGUMENT", "filter", oracle="UNKNOWN"):
            next(api.events.Subscribe(filters=["topic", bad]))


def test_subscribers_see_all_namespaces(api: Client, other: Client, nobody: Client) -> None:
    with api.watching("topic~=/^.seen.by/") as seen:
        publish(api, "/seen/by/one")
        publish(other, "/seen/by/two")
        publish(other, "/not/seen")
    assert [(e.topic, e.namespace) for e in seen.envelopes] == [
        ("/seen/by/one", api.namespace),
        ("/seen/by/two", other.namespace),
    ]
    call = nobody.events.Subscribe()
    call.cancel()


def test_filters(api: Client, other: Client) -> None:
    def topics(*filters: str) -> list[str]:
        with api.watching(*filters) as seen:
            for client in (api, other):
                publish(client, "/filter/one")
                publish(client, "/filter/two")
        return [
            f"{'mine' if e.namespace == api.namespace else 'other'}{e.topic}"
            for e in seen.envelopes
        ]

    mine = f"namespace=={api.namespace}"
    assert topics(mine) == ["mine/filter/one", "mine/filter/two"]
    assert topics(f'{mine},topic=="/filter/two"') == ["mine/filter/two"]
    assert topics(f"{mine},topic~=|^/filter/o|") == ["mine/filter/one"]
    assert topics(f"{mine},topic!=x") == ["mine/filter/one", "mine/filter/two"]
    both = topics(
        f'{mine},topic=="/filter/one"', f'namespace=={other.namespace},topic=="/filter/two"'
    )
    assert both == ["mine/filter/one", "other/filter/two"]


def test_fields_of_events_can_be_filtered(api: Client) -> None:
    with api.watching(f"namespace=={api.namespace},event.name==one") as seen:
        for name in ("one", "two"):
            api.images.Create(
                image={
                    "name": name,
                    "target": {"media_type": "m", "digest": "sha256:" + "a" * 64, "size": 1},
                }
            )
    assert [opened(e).name for e in seen.envelopes] == ["one"]


def test_fields_of_what_others_publish_can_be_filtered(api: Client) -> None:
    def oom(id: str) -> Any:
        return kept(
            "containerd.events.TaskOOM", message("containerd.events.TaskOOM", container_id=id)
        )

    with api.watching(f"namespace=={api.namespace},event.container_id==one") as seen:
        for id in ("one", "two"):
            publish(api, "/tasks/oom", oom(id))
            api.events.Forward(
                envelope=envelope(namespace=api.namespace, topic="/tasks/oom", event=oom(id))
            )
    assert [opened(e).container_id for e in seen.envelopes] == ["one", "one"]


def test_a_subscriber_that_left_is_forgotten(api: Client) -> None:
    for _ in range(5):
        call = api.events.Subscribe()
        publish(api, "/before")
        call.cancel()
    with api.watching() as seen:
        publish(api, "/after")
    assert seen.topics == ["/after"]
