"""One training, the same for all three networks; it survives a kill at any moment.

The loss is a softmax over the right answers of a batch: those of the other questions are the negatives of each. An
answer that is right for a question is none of its negatives. What is met often is drawn often, so each score is lowered
by the logarithm of how probably its item is in a batch (Yi et al. 2019, doi:10.1145/3298689.3346996), unless
`corrected` is off.

After every epoch everything that the next one depends on is written: weights, optimizer and random generators. A
training that goes on ends with the same weights as one that was never disturbed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from baselines.recbole.material import Ints
from baselines.search.material import Material, Rows
from baselines.search.network import Network
from baselines.search.scoring import WEIGHTS, Judge
from baselines.search.settings import Learning
from harness.errors import BadSetting

STATE = "state.pt"
SIDE_BY_SIDE = 32
"""Batches whose questions are sorted by the length of their histories, so that little padding is read."""
Tell = Callable[[int, int], None]
"""Is told steps done, and steps in all if nothing stops it early."""


@dataclass
class Course:
    """Where a training is."""

    epoch: int = -1
    """The last that was finished."""
    best_epoch: int = -1
    best: float = -1.0
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    """Before this process took it up."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the best epoch, or where nothing is validated, of the last."""


class Trainer:
    def __init__(self, model: str, set_to: Learning, learned: Material) -> None:
        self._set, self._learned = set_to, learned
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(model, set_to, learned).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=set_to.learning_rate, weight_decay=set_to.weight_decay, fused=True
        )
        self.draws = torch.Generator().manual_seed(set_to.seed)
        self._titles = torch.from_numpy(learned.titles)
        self._known = torch.from_numpy(np.where(learned.met > 0, np.arange(len(learned.met)), 0))
        share = np.bincount(learned.train.item, minlength=len(learned.met)) / len(learned.train.item)
        drawn = -np.expm1(set_to.batch * np.log1p(-np.minimum(share, 1 - 1e-9)))
        self._drawn = torch.from_numpy(np.log(np.maximum(drawn, 1e-12)).astype(np.float32))
        self._lengths = np.count_nonzero(learned.train.history, axis=1)

    @property
    def steps(self) -> int:
        """In one epoch."""
        return -(-len(self._learned.train.item) // self._set.batch)

    def epoch(self, stepped: Callable[[], None]) -> float:
        """One pass over the training questions; the mean loss."""
        self.network.train()
        losses = []
        for rows in self._batches():
            loss = self._loss(rows)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.detach()))
            stepped()
        return float(np.mean(losses))

    def _batches(self) -> Iterator[Ints]:
        """Rows in random order; questions with histories of about one length are in a batch together."""
        size, count = self._set.batch, len(self._learned.train.item)
        order = torch.randperm(count, generator=self.draws).numpy()
        batches: list[Ints] = []
        for start in range(0, count, size * SIDE_BY_SIDE):
            part = order[start : start + size * SIDE_BY_SIDE]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += np.split(part, range(size, len(part), size))
        for place in torch.randperm(len(batches), generator=self.draws).tolist():
            yield batches[place]

    def _loss(self, rows: Ints) -> Tensor:
        train = self._learned.train
        history = train.history[rows][:, : max(1, int(self._lengths[rows].max()))]
        # Code 0 is the smallest, so that row 0 of what is read is nothing.
        codes, places = np.unique(np.concatenate([[0], history.ravel(), train.item[rows]]), return_inverse=True)
        target, columns = places[1 + history.size :], np.unique(places[1 + history.size :])
        read = torch.from_numpy(codes)
        items = self.network.items(self._on(self._titles[read]), self._on(self._forget(self._known[read])))
        asked = self.network.questions(
            self._on(self._forget(torch.from_numpy(train.user[rows]))),
            self._on(torch.from_numpy(places[1 : 1 + history.size].reshape(history.shape))),
            self._on(torch.from_numpy(_trimmed(train.query[rows]))),
            items,
        )
        scores = asked @ items.vectors[self._on(torch.from_numpy(columns))].T
        if self._set.corrected:
            scores = scores - self._on(self._drawn[read[columns]])
        right = torch.from_numpy(np.searchsorted(columns, target))
        hit = self._on(torch.from_numpy(_hits(rows, train, codes[columns])))
        return cross_entropy(scores.masked_fill(hit, -torch.inf), self._on(right))

    def _forget(self, codes: Tensor) -> Tensor:
        """Some of them unknown, so that the other parts of a vector learn to do without."""
        kept = torch.rand(codes.shape, generator=self.draws) >= self._set.forget
        return codes * kept

    def _on(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def write(self, state: Path, course: Course) -> None:
        content = {
            "course": vars(course),
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        partial = state.with_name(f"{state.name}.{os.getpid()}")
        torch.save(content, partial)
        partial.replace(state)

    def take_up(self, state: Path) -> Course:
        content = torch.load(state, weights_only=True, map_location="cpu")
        self.network.load_state_dict(content["weights"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.draws.set_state(content["draws"])
        torch.set_rng_state(content["torch"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(content["cuda"])
        return Course(**content["course"])


def fit(model: str, set_to: Learning, learned: Material, work: Path, tell: Tell) -> dict[str, Any]:
    """Train, keep the weights of the best validation in `work / "made"`, and return what is worth telling."""
    began = time.monotonic()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):  # the process's own generator stays where it is
        torch.manual_seed(set_to.seed)
        trainer = Trainer(model, set_to, learned)
        course = trainer.take_up(work / STATE) if (work / STATE).exists() else Course()
        _go_on(trainer, set_to, learned, course, work / STATE, tell)
    made = work / "made"
    made.mkdir(exist_ok=True)
    save_file({name: value.contiguous().cpu() for name, value in course.weights.items()}, made / WEIGHTS)
    return {
        "curve": course.curve,
        "best_epoch": course.best_epoch,
        "epochs": course.epoch + 1,
        "valid_metric": "MRR" if len(learned.valid.item) else None,
        "weights": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "seconds": round(time.monotonic() - began + course.seconds, 1),
        "device": str(trainer.device),
        "threads": torch.get_num_threads(),
    }


def _go_on(trainer: Trainer, set_to: Learning, learned: Material, course: Course, state: Path, tell: Tell) -> None:
    done, total, before = (course.epoch + 1) * trainer.steps, set_to.epochs * trainer.steps, course.seconds
    began = time.monotonic()

    def stepped() -> None:
        nonlocal done
        done += 1
        tell(done, total)

    while course.epoch + 1 < set_to.epochs and course.epoch - course.best_epoch < set_to.patience:
        loss = trainer.epoch(stepped)
        if not isfinite(loss):
            raise BadSetting(f"the loss of epoch {course.epoch + 2} is no number; lower learning_rate")
        course.epoch += 1
        at = {"epoch": course.epoch, "loss": round(loss, 5)}
        score = 0.0
        if len(learned.valid.item):
            at["score"] = score = Judge(trainer.network, learned).reciprocal_rank(learned.valid)
        if score > course.best or not len(learned.valid.item):
            course.best, course.best_epoch = score, course.epoch
            course.weights = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
        course.curve.append({**at, "seconds": round(before + time.monotonic() - began, 2)})
        trainer.write(state, Course(**{**vars(course), "seconds": before + time.monotonic() - began}))


def _trimmed(query: Ints) -> Ints:
    """Without the columns that are all zero, the first excepted."""
    return query[:, : max(1, int(np.count_nonzero(query.any(axis=0))))]


def _hits(rows: Ints, train: Rows, columns: Ints) -> Any:
    """Which of the columns' items are right for a row without being its target; shape (rows, columns)."""
    hits = np.zeros((len(rows), len(columns)), dtype=bool)
    ends = train.others.ends
    starts = ends[rows] - train.others.lengths[rows]
    for place in np.flatnonzero(ends[rows] > starts).tolist():
        others = train.others.values[starts[place] : ends[rows[place]]]
        hits[place] = np.isin(columns, others)
    return hits
