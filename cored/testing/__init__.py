"""For the tests of plugins: the contracts of the seams as pytest classes, and small real fakes.

A plugin's test file is a fixture and a class::

    class TestMine(SnapshotterContract):
        @pytest.fixture
        async def snapshotter(self, tmp_path): ...

pytest and pytest-asyncio must be installed; ``pytest.register_assert_rewrite("cored.testing")``
in a conftest.py makes failures show values.
"""
