"""Messages of cored.build.v1 to values, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cored._pb.containerd.types import descriptor_pb2
from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.abc.records import Image
from cored.engine.progress import Progress
from cored.engine.registry import Credentials, keyring
from cored_service_build.contexts import Contexts
from cored_service_build.directories import Entry
from cored_service_build.values import Output, Request, Result, StepState, Told

__all__ = ["event_message", "received", "request_value", "result_message"]


async def received(contexts: Contexts, message: pb.BuildRequest) -> pb.BuildEvent | None:
    """Take a message that follows the options; the answer, when there is one."""
    if not message.HasField("files"):
        await contexts.data(message.data.context, message.data.data)
        return None
    files = message.files
    entries = [
        Entry(
            os.fsdecode(file.path), file.mode, file.size, file.modified_at,
            os.fsdecode(file.link), file.stamp.decode("latin-1"),
        )
        for file in files.files
    ]  # fmt: skip
    wanted = await contexts.listed(files.context, files.key, entries, last=files.last)
    if wanted is None:
        return None
    return pb.BuildEvent(wanted=pb.Wanted(context=files.context, files=wanted))


def request_value(message: pb.BuildOptions, contexts: Mapping[str, Path]) -> Request:
    auths = {
        auth.host: Credentials(auth.username, auth.password, auth.identity_token)
        for auth in message.auths
    }
    return Request(
        dockerfile=message.dockerfile,
        dockerfile_name=message.dockerfile_path or message.dockerfile_name or "Dockerfile",
        inside=bool(message.dockerfile_path),
        target=message.target,
        args=dict(message.args),
        tags=tuple(message.tags),
        labels=dict(message.labels),
        platforms=tuple(dict.fromkeys(message.platform.replace(" ", "").split(","))),
        no_cache=message.no_cache,
        pull=message.pull,
        secrets=dict(message.secrets),
        ssh=dict(message.ssh),
        contexts=contexts,
        images=dict(message.named_images),
        remotes=dict(message.remote_contexts),
        network=message.network or "default",
        memory_limit=message.memory_limit,
        milli_cpus=message.milli_cpus,
        timeout=message.timeout,
        access=keyring(auths),
        ignore=message.dockerignore,
        add_hosts=tuple(message.add_hosts),
        allow=tuple(message.allow),
    )


def event_message(event: Any) -> pb.BuildEvent:
    match event:
        case StepState():
            step = pb.Step(
                id=event.id,
                name=event.name,
                state=event.state,
                started_at=event.started_at,
                ended_at=event.ended_at,
                error=event.error,
                changes=event.changes,
            )
            return pb.BuildEvent(step=step)
        case Output():
            return pb.BuildEvent(output=pb.Output(step=event.step, data=event.data))
        case Told():
            warning = pb.Finding(rule=event.rule, text=event.text, line=event.line)
            return pb.BuildEvent(warning=warning)
        case Progress():
            transfer = pb.Transfer(
                id=event.id, status=event.status, offset=event.offset, total=event.total
            )
            return pb.BuildEvent(transfer=transfer)
        case _:
            raise TypeError(event)


def result_message(result: Result, images: list[Image]) -> pb.BuildEvent:
    target = descriptor_pb2.Descriptor(
        media_type=result.target.media_type, digest=result.target.digest, size=result.target.size
    )
    names = [image.name for image in images]
    return pb.BuildEvent(
        result=pb.Result(target=target, config_digest=result.config_digest, names=names)
    )
