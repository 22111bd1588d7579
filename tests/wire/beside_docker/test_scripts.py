"""corectl and docker do the same with the same words; differences that stay have their reason.

The scripts are in ``scripts/``: each line is run by both, and its exit code, its output (ids, times
and addresses aside), and whether it says something on stderr are compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.both import Both, Script, compared, scripts

pytestmark = [pytest.mark.root, pytest.mark.slow]

_TABLE = {
    f"{path.stem}: {name}": script
    for path in sorted((Path(__file__).parent / "scripts").iterdir())
    for name, script in scripts(path.read_text()).items()
}


@pytest.mark.parametrize("script", _TABLE.values(), ids=list(_TABLE))
def test_corectl_is_as_docker(script: Script, both: Both) -> None:
    compared(both, script)
