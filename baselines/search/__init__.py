"""Models that read texts: `--model search:BM25`, and three networks that are trained on the task's own questions.

    words, settings, material     plain data: pieces of texts, what is set, what is learned from
    bm25                          scores that are counted
    network, fitting, scoring     the networks, their one trainer, their answers: the only modules that import torch
    trained, engine               made once; questions and answers

What is known of whom. BM25 and DSSM read no id. To TwoTower and TEM an item of the catalogue that no training question
has is its title alone, whether it is asked for or stands in a history; a user that no training question has is left out
of TwoTower's sum (TEM reads no user). Items of a history that are not in the catalogue are skipped, and candidates that
are not in it come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from baselines.search.settings import NETWORKS, Learning, counting, learning
from harness.errors import BadModel, NotApplicable
from harness.knobs import settings as values_of
from harness.model import EngineOptions, ModelSettings
from harness.registry import Baseline, unknown
from harness.task import Task
from harness.types import Split

if TYPE_CHECKING:
    from baselines.search.engine import SearchEngine

BM25_VERSION = 1


class Search:
    """The group `search:`."""

    names: Mapping[str, str] = {
        "BM25": "words that the query and an item's text share; learns nothing",
        "DSSM": "two towers over text: the query's and the item's",
        "TwoTower": "user, history and their texts on one side, the item's id and text on the other",
        "TEM": "a transformer over the query and the history's items",
    }

    def find(self, name: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
        if name not in self.names:
            raise BadModel(unknown("model", f"search:{name}", [f"search:{known}" for known in self.names]))
        shown = [f"{key}={value}" for key, value in settings.given.items()]
        shown += [settings.file.name] if settings.file else []
        title = f"search:{name}" + (f" ({', '.join(shown)})" if shown else "")
        if name not in NETWORKS:
            return _counted(title, task, split, settings)
        set_to = learning(name, settings)
        from baselines.search.trained import VERSION

        who: dict[str, Any] = {"baseline": f"search:{name}", "version": VERSION, "settings": dict(values_of(set_to))}
        return Baseline(title, who, lambda options: _learned(name, task, split, set_to, options), trains=True)


search = Search()


def _counted(title: str, task: Task, split: Split, settings: ModelSettings) -> Baseline:
    set_to = counting(settings)

    def make(options: EngineOptions) -> SearchEngine:
        from baselines.search.bm25 import BM25
        from baselines.search.engine import SearchEngine

        _check_queries("BM25", task, split)
        catalogue = task.catalogue()
        score = BM25(catalogue.items, set_to)
        return SearchEngine("search:BM25", catalogue, score, None, asks=True, bound=task.masks(False))

    who = {"baseline": "search:BM25", "version": BM25_VERSION, "settings": dict(values_of(set_to))}
    return Baseline(title, who, make)


def _learned(name: str, task: Task, split: Split, set_to: Learning, options: EngineOptions) -> SearchEngine:
    from baselines.search.engine import SearchEngine
    from baselines.search.material import Reader, material
    from baselines.search.trained import trained

    asks = name != "TwoTower"
    if asks:
        _check_queries(name, task, split)
    learned = material(task, name, set_to)
    if asks and not learned.contexts:
        raise NotApplicable(f"search:{name} learns from queries, and no training question of {task.name!r} has a word")
    from baselines.search.scoring import Answers, load, use_threads

    use_threads(options.threads)
    folder = trained(name, task, set_to, learned)
    score = Answers(load(folder, name, set_to, learned), learned, Reader.of(learned, set_to))
    cold = learned.met[1:] == 0
    bound = task.masks(name != "DSSM")
    return SearchEngine(f"search:{name}", task.catalogue(), score, cold, asks, bound)


def _check_queries(name: str, task: Task, split: Split) -> None:
    """NotApplicable where the first question has no query: then none is expected to."""
    first = next(iter(task.instances(split)), None)
    if first is not None and first.context is None:
        raise NotApplicable(f"search:{name} answers queries, and the questions of task {task.name!r} have none")
