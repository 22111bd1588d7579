"""Why a container failed, in words: ``diagnosis`` gathers it; ``endings`` knows exit codes and
signals, ``executables`` what cannot be run, ``holders`` who has what is wanted, ``hints`` what
error messages mean here."""

from cored.engine.why.diagnosis import Diagnosis
from cored.engine.why.values import Cause, Report

__all__ = ["Cause", "Diagnosis", "Report"]
