"""Is everything in the stores as its records say? What an operator asks after a power cut."""

from __future__ import annotations

from cored.engine.check.checker import Checker, Order
from cored.engine.check.findings import Damage, Event, Stage, Summary

__all__ = ["Checker", "Damage", "Event", "Order", "Stage", "Summary"]
