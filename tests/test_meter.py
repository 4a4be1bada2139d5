"""A meter says of every answer what each metric alone says, whatever it was shown before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from harness.exposure import ARP
from harness.meter import Meter
from harness.metrics import MAP, MRR, NDCG, Answer, HitRate, MeanOf, Metric, Precision, Recall, Together
from harness.types import Catalogue, Instance, Item, Prediction

ITEMS = "abcdefgh"
CATALOGUE = Catalogue(tuple(Item(item, item) for item in ITEMS), {item: n for n, item in enumerate(ITEMS)})


@dataclass(frozen=True)
class Sure(HitRate):
    """A hit metric that reads more than the hits, as somebody may write it."""

    label: ClassVar[str] = "Sure"

    def measure(self, answer: Answer) -> tuple[float]:
        facts = answer.prediction.facts if answer.prediction else {}
        return (super().measure(answer)[0] * facts.get("mass", 1.0),)


METRICS: tuple[Metric, ...] = (
    MeanOf("mass"),
    NDCG(5),
    Together((Recall(1), Recall(4))),
    ARP(3),
    Sure(3),
    *(kind(k) for kind in (HitRate, MRR, Recall, Precision, MAP) for k in (1, 3, 20)),
)
GAINS = st.dictionaries(st.sampled_from(ITEMS + "z"), st.sampled_from([0.0, 0.5, 1.0, 3.0]), max_size=5)
SCORES = st.dictionaries(st.sampled_from(ITEMS), st.sampled_from([-1.0, 0.0, 0.5, 2.0]) | st.floats(-1, 1))
PREDICTIONS = st.none() | st.builds(Prediction, SCORES, st.sampled_from([{}, {"mass": 0.5}, {"mass": 0.25}]))


@given(st.lists(st.tuples(GAINS, PREDICTIONS), max_size=8))
def test_rows_are_those_of_each_metric_by_itself(asked: list[tuple[dict[str, float], Prediction | None]]) -> None:
    meter = Meter(METRICS)
    for number, (gains, prediction) in enumerate(asked * 2):
        answer = Answer.of(Instance(str(number), "u", (), None, gains, catalogue=CATALOGUE), prediction)
        alone = [(metric.name, metric.measure(answer)) for metric in METRICS]
        rows = meter.rows(answer)
        assert list(rows.items()) == alone
        rows.clear()  # what is done to them is not done to the next answer's


def test_a_meter_without_metrics_measures_nothing() -> None:
    assert Meter(()).rows(Answer.of(Instance("i", "u", (), None, {"a": 1.0}), Prediction({"a": 1.0}))) == {}
