"""cored.workloads.v1.Diagnosis"""

from __future__ import annotations

from cored._pb.cored.workloads.v1 import diagnosis_pb2 as pb
from cored.abc.service import Service
from cored.engine.why import Diagnosis, Report
from cored_service_workloads.messages import timestamp

__all__ = ["DiagnosisService"]


class DiagnosisService(Service):
    service = "cored.workloads.v1.Diagnosis"

    def __init__(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis

    async def Why(self, request: pb.WhyRequest) -> pb.WhyResponse:
        return _message(await self._diagnosis.why(request.container))


def _message(report: Report) -> pb.WhyResponse:
    return pb.WhyResponse(
        id=report.id,
        name=report.name,
        image=report.image,
        status=report.status,
        exit_status=report.exit_status,
        started_at=timestamp(report.started_at),
        exited_at=timestamp(report.exited_at),
        causes=[
            pb.Cause(kind=one.kind, text=one.text, hint=one.hint, telling=one.telling)
            for one in report.causes
        ],
        lines=report.lines,
        lives=[
            pb.Life(
                started_at=timestamp(one.started_at),
                exited_at=timestamp(one.exited_at),
                exit_status=one.exit_status,
                oom_killed=one.oom_killed,
                error=one.error,
            )
            for one in report.lives
        ],
    )
