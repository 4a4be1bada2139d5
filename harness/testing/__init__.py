"""Contracts that every task, every engine that reads text and every one that ranks must keep, for our tests and a
stranger's.

class TestMine(TaskContract):
    task = Mine()

class TestEngine(EngineContract):
    @pytest.fixture
    def engine(self): ...
"""

from harness.testing.engines import EngineContract
from harness.testing.rankers import RankerContract
from harness.testing.tasks import Finding, TaskContract, check_task

__all__ = ["EngineContract", "Finding", "RankerContract", "TaskContract", "check_task"]
