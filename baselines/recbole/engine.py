"""A trained RecBole model as an engine: questions out to its process, answers in, one batch ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from baselines.recbole.child import Child
from baselines.recbole.job import Answers, Load, Questions
from baselines.recbole.material import Lists, history_codes
from baselines.recbole.stored import load_material
from baselines.recbole.trained import read
from harness.engines import Answered, Asked
from harness.types import Key, Rank, Ranked, Request, Scores, Usage

BATCH = 1024


class RecBoleEngine:
    """Answers `Rank`. While the harness works on the answers to a batch, the process works on the next."""

    def __init__(self, folder: Path, cold: Literal["model", "last"], bound: bool, threads: int | None) -> None:
        """`bound` says whether excluded items may not be named."""
        self.answers: frozenset[type[Request]] = frozenset({Rank})
        self.capacity = 2 * BATCH
        told = read(folder)
        known = load_material(folder)
        self._users = {user: code for code, user in enumerate(known.users, 1)}
        self._items = {item: code for code, item in enumerate(known.items, 1)}
        self._names = ("", *known.items)
        self._met = known.met
        self._likes, self._longest = told["likes"], known.longest
        self._bound = bound
        self._waiting: deque[list[tuple[Key, Rank]]] = deque()
        self._sent: list[tuple[Key, Rank]] = []
        self._child = Child(threads)
        try:
            self._child.ask(Load(folder, cold))
        except BaseException:
            self._child.close()
            raise

    def submit(self, asked: Sequence[Asked]) -> None:
        for listed in (False, True):
            same = [(key, rank) for key, rank in asked
                    if isinstance(rank, Rank) and (rank.candidates is None) is listed]  # fmt: skip
            self._waiting.extend(same[start : start + BATCH] for start in range(0, len(same), BATCH))
        self._send()

    def collect(self) -> Sequence[Answered]:
        if not self._sent:
            return []
        found, asked = self._child.receive(), self._sent
        self._sent = []
        self._send()
        return self._replies(asked, found)

    def close(self) -> None:
        self._waiting.clear()
        self._sent = []
        self._child.close()

    def _send(self) -> None:
        """At most one batch is on its way, so that neither side waits for the other to read."""
        if self._sent or not self._waiting:
            return
        self._sent = self._waiting.popleft()
        ranks = [rank for _, rank in self._sent]
        listed = ranks[0].candidates is not None
        excluded = (rank.excluded if self._bound else () for rank in ranks)
        self._child.send(
            Questions(
                ids=tuple(key.instance for key, _ in self._sent),
                users=np.array([self._users.get(rank.user, 0) for rank in ranks], dtype=np.int64),
                history=Lists.of(history_codes(r.history, self._items, self._likes, self._longest) for r in ranks),
                candidates=Lists.of([self._items.get(item.id, 0) for item in rank.candidates or ()] for rank in ranks)
                if listed
                else None,
                excluded=Lists.of([self._items[item] for item in items if item in self._items] for items in excluded),
                top=max(rank.top for rank in ranks),
            )
        )

    def _replies(self, asked: list[tuple[Key, Rank]], found: Answers) -> list[Answered]:
        scores = np.split(found.scores, found.items.ends[:-1])
        replies: list[Answered] = []
        for (key, rank), codes, values, popular in zip(asked, found.items, scores, found.popular, strict=True):
            facts = {
                "unknown": float((codes == 0).mean()) if len(codes) else 0.0,
                "cold": float(((self._met[codes] == 0) & (codes > 0)).mean()) if len(codes) else 0.0,
                "by_popularity": float(popular),
            }
            if rank.candidates is not None:
                replies.append((key, Scores(tuple(values.tolist()), Usage(), facts)))
                continue
            names = tuple(self._names[code] for code in codes[: rank.top].tolist())
            replies.append((key, Ranked(names, Usage(), tuple(values[: rank.top].tolist()), facts)))
        return replies
