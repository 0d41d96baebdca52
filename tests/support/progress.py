"""A progress that keeps what it was told."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from bertjax.stage_progress import Advance, StageProgress


class KeptStages(StageProgress):
    """Keeps (title, unit, total, what was counted) of each stage."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str, int | None, list[int]]] = []

    @contextmanager
    def stage(self, title: str, unit: str, total: int | None, done: int = 0) -> Iterator[Advance]:
        counts, lock = list[int](), RLock()
        self.stages.append((title, unit, total, counts))

        def advance(count: int) -> None:
            with lock:  # as a bar has one: nothing that is pickled may keep this function
                counts.append(count)

        yield advance
