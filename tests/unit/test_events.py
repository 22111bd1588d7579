"""The event exchange: order, filters, independence of subscribers."""

from __future__ import annotations

import asyncio

import pytest

from cored import scope
from cored.abc.events import Envelope, ImageCreate, TaskExit
from cored.abc.values import Typed
from cored.engine.events import Exchange
from cored.errors import InvalidArgument
from cored.scope import Scope


async def test_every_subscriber_sees_what_matches_in_order() -> None:
    bus = Exchange()
    everything, exits = bus.subscribe(), bus.subscribe(['topic=="/tasks/exit"'])
    with scope.entered(Scope("ns")):
        await bus.publish(ImageCreate("a"))
        await bus.publish(TaskExit("c", "c", 7, 3, 1))
        await bus.publish(ImageCreate("b"))
    seen = [(await anext(everything)).event for _ in range(3)]
    assert seen == [ImageCreate("a"), TaskExit("c", "c", 7, 3, 1), ImageCreate("b")]
    envelope = await anext(exits)
    assert (envelope.namespace, envelope.topic) == ("ns", "/tasks/exit")


async def test_fields_of_events_and_namespaces_filter() -> None:
    bus = Exchange()
    wanted = bus.subscribe(["namespace==ns,event.name~=^b"])
    await bus.publish(ImageCreate("b1"), namespace="other")
    await bus.publish(ImageCreate("a"), namespace="ns")
    await bus.publish(ImageCreate("b2"), namespace="ns")
    assert (await anext(wanted)).event == ImageCreate("b2")


async def test_a_closed_subscription_takes_no_more() -> None:
    bus = Exchange()
    gone = bus.subscribe()
    await bus.publish(ImageCreate("a"), namespace="ns")
    await anext(gone)
    await gone.aclose()  # type: ignore[attr-defined]
    assert not bus._subscribers


async def test_strangers_envelopes_pass_through_untouched() -> None:
    bus = Exchange()
    got = bus.subscribe()
    sent = Envelope(5, "ns", "/x/y", Typed("some.Message", b"\x01"))
    await bus.forward(sent)
    assert await anext(got) == sent


@pytest.mark.parametrize(("topic", "namespace"), [("", "n"), ("x", "n"), ("/", "n"), ("/x", "")])
async def test_bad_envelopes_are_refused(topic: str, namespace: str) -> None:
    with pytest.raises(InvalidArgument):
        await Exchange().forward(Envelope(5, namespace, topic, Typed("m", b"")))


async def test_a_waiting_subscriber_wakes_up() -> None:
    bus = Exchange()
    waiting = asyncio.ensure_future(anext(bus.subscribe()))
    await asyncio.sleep(0)
    await bus.publish(ImageCreate("late"), namespace="ns")
    assert (await waiting).event == ImageCreate("late")
