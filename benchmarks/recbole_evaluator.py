"""RecBole's own evaluator on a trained baseline and our test rows, in a process of its own; prints JSON.

    python -m benchmarks.recbole_evaluator FOLDER TASK-SETTING...

The referee of tests/test_recbole_runs.py, and the other side of benchmarks/sequential.py.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    folder, words = Path(sys.argv[1]), sys.argv[2:]

    from baselines.recbole.compat import import_recbole

    import_recbole()
    from recbole.data import data_preparation
    from recbole.utils import get_trainer

    from baselines.recbole.fitting import configuration
    from baselines.recbole.forms import model_class
    from baselines.recbole.job import Recipe
    from baselines.recbole.material import rows_of
    from baselines.recbole.rows import dataset
    from baselines.recbole.stored import load_material
    from baselines.recbole.weights import load_weights
    from harness import registry

    told = json.loads((folder / "harness.json").read_text(encoding="utf-8"))
    options = {**told["options"], "metric_decimal_place": 8, "topk": [10, 20]}
    recipe = Recipe(told["model"], told["form"], told["loss"], options)
    material = load_material(folder)
    test = rows_of(list(registry.task("sequential", words).instances("test")), material)
    config = configuration(recipe, material.longest, folder)
    train, _, loader = data_preparation(config, dataset(config, material, recipe.form, test))
    model = model_class(recipe.model, recipe.form, recipe.loss)(config, train._dataset)
    load_weights(folder, model)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(loader)
    began = time.monotonic()
    found = trainer.evaluate(loader, load_best_model=False)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"scores": dict(found), "seconds": seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main()
