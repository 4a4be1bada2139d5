"""Which checkpoint is the best: what is measured on the validation rows while a model is tuned.

`correct` asks the model in training exactly what an evaluation would ask it. `paper` reads what the paper's own
script reads, mistakes included, as far as the task says how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean

import numpy as np

from harness.engines import Engine
from harness.engines.encode import Encoder, Trie
from harness.engines.text import Backend, Probe, Probed
from harness.engines.transformers import TransformersBackend
from harness.errors import BadSetting, NotApplicable, RequestFailed
from harness.metrics import Answer
from harness.points import AUC
from harness.runner import drive
from harness.task import Task
from harness.tuning.base import Trainable
from harness.tuning.recipe import Recipe
from harness.tuning.rows import Encoded
from harness.types import Choose, Instance, Prediction

Measure = Callable[[], float]


@dataclass(frozen=True)
class Validation:
    """One task's rows that choose among checkpoints."""

    task: Task
    instances: Sequence[Instance]
    texts: Sequence[Encoded]


def measure_of(validations: Sequence[Validation], recipe: Recipe, trainable: Trainable, template: str) -> Measure:
    """The selection metric of a recipe, to be called whenever the weights have changed.

    After joint training `correct` is the mean over the tasks; `paper` knows the first task only, as the authors do.
    """
    view = trainable.view()
    if recipe.selection == "correct":
        engine = view.engine(None, template)
        return lambda: fmean(headline(one.task, engine, one.instances) for one in validations)
    if trainable.checkpoint.encoder_decoder:
        raise NotApplicable("selection=paper reads positions of a text that is one sequence; use selection=correct")
    first = validations[0]
    encoder = Encoder(trainable.tokenizer, template, trainable.checkpoint.name)
    answers = _answer_tokens(first.task, first.instances[0], encoder)
    places = [[place for place, token in enumerate(text.ids) if token in answers] for text in first.texts]
    chosen = first.task.paper_selection(places)
    return lambda: _auc_at(chosen, first.texts, answers, TransformersBackend(view, None, encoder))


def headline(task: Task, engine: Engine, instances: Sequence[Instance]) -> float:
    """What the task selects by, over these instances; a failed one counts as the worst answer."""
    metric = task.selector
    asked = {instance.id: instance for instance in instances}
    rows, users = [], []
    for name, outcome, _ in drive(((i.id, task.solve(i)) for i in instances), engine):
        answer = Answer.of(asked[name], outcome if isinstance(outcome, Prediction) else None)
        if (row := metric.measure(answer)) is not None:
            rows.append(row)
            users.append(asked[name].user)
    _, codes = np.unique(users, return_inverse=True)
    value = metric.aggregate(np.array(rows), codes)
    if isnan(value):
        raise BadSetting(
            f"{metric.name} is undefined over the {len(instances)} validation rows; use more valid_rows, or "
            "selection=last"
        )
    return value


def _answer_tokens(task: Task, instance: Instance, encoder: Encoder) -> tuple[int, int]:
    """The tokens that say yes and no where the answer stands; the task's first option is yes."""
    (request,) = next(task.solve(instance))
    if not isinstance(request, Choose) or len(request.options) != 2:
        raise NotApplicable(f"task {task.name!r} does not ask for one of two answers; use selection=correct")
    (choice,) = encoder.choices([(request.prompt, request.options, request.ended)])
    if isinstance(choice, RequestFailed):
        raise choice
    yes, no = (option[0] for option in choice.trie.options)
    return yes, no


def _auc_at(
    chosen: Sequence[tuple[int, int]], texts: Sequence[Encoded], answers: tuple[int, int], backend: Backend
) -> float:
    """AUC of P(yes) - P(no) for the tokens at these (row, place), each a yes or a no, after what precedes it."""
    trie = Trie.of([(token,) for token in answers])
    backend.submit([(n, Probe(texts[row].ids[:place], trie)) for n, (row, place) in enumerate(chosen)])
    rows = []
    while done := backend.collect():
        for number, probed in done:
            if not isinstance(probed, Probed):
                raise TypeError(f"a probe was answered with {probed!r}")
            row, place = chosen[number]
            yes, no = probed.answers[()]
            rows.append((float(texts[row].ids[place] == answers[0]), np.exp(yes) - np.exp(no), 1.0))
    return AUC().aggregate(np.array(rows), np.arange(len(rows)))
