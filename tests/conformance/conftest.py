"""Failures inside the shipped suites show values, too."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("cored.testing")
