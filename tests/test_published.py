"""Published numbers: every file against the paper's own digits, against arithmetic, and against the tasks."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, islice
from math import log2
from pathlib import Path

import pytest

from harness import registry
from harness.errors import BadData
from harness.knobs import knobs
from leaderboard.published import DATA, Published, beside, parse, published, reported, rows, said

REFERENCE = Path(__file__).parent.parent / "leaderboard" / "reference"
HALF_UNIT = 0.5e-4
"""Scores are printed to four places."""
DISCOUNTS: Mapping[str, Callable[[int], float]] = {
    "NDCG": lambda place: 1 / log2(place + 1),
    "MRR": lambda place: 1 / place,
}
"""What the one relevant item adds at a place."""


def value(task: str, source: str, method: str, metric: str, shots: int | None = None, data: str = "") -> float:
    (found,) = (
        one.value
        for one in published()
        if (one.task, one.method, one.metric, one.shots) == (task, method, metric, shots)
        and one.source.endswith(source)
        and one.data.startswith(data)
    )
    return found


@pytest.mark.parametrize(
    ("paper", "source", "shots", "data", "expected"),
    [
        ("tallrec", "Table 1", 16, "MovieLens", {"GRU4Rec AUC": 0.4907, "TALLRec AUC": 0.6724}),
        ("tallrec", "Table 1", 64, "MovieLens", {"DROS AUC": 0.5154, "TALLRec AUC": 0.6748}),
        ("tallrec", "Table 1", 256, "MovieLens", {"Caser AUC": 0.5420, "TALLRec AUC": 0.7198}),
        ("tallrec", "Table 1", 16, "Book", {"GRU-BERT AUC": 0.5007, "TALLRec AUC": 0.5636}),
        ("tallrec", "Table 1", 64, "Book", {"DROS-BERT AUC": 0.4898, "TALLRec AUC": 0.6039}),
        ("tallrec", "Table 1", 256, "Book", {"SASRec AUC": 0.5020, "TALLRec AUC": 0.6438}),
        ("palr", "Table 2", None, "Beauty", {"BPR-MF HR@10": 0.0299, "NCF NDCG@10": 0.0130, "PALR_v1 HR@10": 0.0181}),
        ("palr", "Table 2", None, "Beauty", {"SASRec HR@10": 0.0617, "PALR_v2 NDCG@10": 0.0446}),
        ("palr", "Table 2", None, "ML-1M", {"GRU4Rec HR@10": 0.1017, "Caser NDCG@10": 0.0614, "SASRec HR@10": 0.1978}),
        ("palr", "Table 2", None, "ML-1M", {"PALR_v1 NDCG@10": 0.0569, "PALR_v2 HR@10": 0.2110}),
        ("llm-trsr", "Table 2", None, "Amazon", {"NCF Recall@3": 0.83, "CORE Recall@5": 0.4632, "DIN MRR@10": 0.6174}),
        ("llm-trsr", "Table 2", None, "Amazon", {"LLM-TRSR-Recurrent MRR@3": 0.8632, "TALLRec Recall@10": 0.946}),
        ("llm-trsr", "Table 2", None, "MIND", {"DIEN Recall@3": 0.73, "NARM MRR@5": 0.4489, "SASRec Recall@5": 0.896}),
        ("llm-trsr", "Table 2", None, "MIND", {"LLM-TRSR-Hierarchical MRR@10": 0.8611, "GRU4Rec Recall@10": 0.926}),
        ("instructrec", "Table 6", None, "", {"BERT4Rec HR@3": 0.8188, "InstructRec NDCG@5": 0.8295}),
        ("instructrec", "Table 7, P2", None, "", {"TEM HR@1": 0.5005, "GPT-3.5 NDCG@3": 0.4366}),
        ("instructrec", "Table 7, I1", None, "", {"GPT-3.5 HR@5": 0.7566, "InstructRec HR@1": 0.8278}),
        ("instructrec", "Table 7, I2", None, "", {"TEM NDCG@5": 0.9013, "InstructRec HR@5": 0.9951}),
        ("instructrec", "Table 8", None, "", {"DSSM HR@5": 0.9899, "GPT-3.5 HR@5": 0.9480}),
        ("instructrec", "Table 9", None, "", {"SASRec HR@1": 0.0355, "InstructRec HR@3": 0.4823}),
        ("instructrec", "Table 10", None, "", {"TEM HR@1": 0.2794, "InstructRec NDCG@5": 0.6163}),
        ("instructrec", "Table 11", None, "CDs", {"Flan-T5-XL HR@1": 0.0927, "InstructRec(Games) HR@5": 0.6052}),
    ],
)
def test_each_table_has_the_paper_s_digits(
    paper: str, source: str, shots: int | None, data: str, expected: Mapping[str, float]
) -> None:
    for name, wanted in expected.items():
        method, metric = name.split()
        assert value(paper, source, method, metric, shots, data) == wanted


def test_all_tables_are_there_whole() -> None:
    counted = {
        "tallrec.toml": 2 * 3 * 7,
        "palr.toml": 2 * 7 * 2,
        "llm_trsr.toml": 2 * 10 * 6,
        "instructrec.toml": (4 + 3 * 3 + 3 + 3 + 2 + 5) * 5,
    }
    papers = [one for one in published() if not one.independent]
    assert {file: sum(one.table.startswith(file) for one in papers) for file in counted} == counted
    assert len(papers) == sum(counted.values())
    others = [one for one in published() if one.independent]
    assert {one.table.partition("/")[0] for one in others} == {"independent"}
    assert len({(one.table, one.method, one.shots, one.metric) for one in published()}) == len(published())


def test_the_improvements_that_instructrec_prints_follow_from_its_numbers() -> None:
    """Of InstructRec over the best of the others, in per cent, as printed below Tables 6 to 10."""
    printed = {
        "Table 6": (4.26, 0.59, 0.43, 1.85, 1.72),
        "Table 7, P2": (39.04, 19.52, 11.70, 26.04, 21.64),
        "Table 7, I1": (44.64, 20.15, 11.81, 28.63, 24.15),
        "Table 7, I2": (6.97, 7.86, 7.08, 7.56, 7.23),
        "Table 9": (67.36, 38.59, 20.09, 43.41, 38.36),
        "Table 10": (17.25, 71.59, 57.72, 56.29, 50.10),
    }
    for source, wanted in printed.items():
        found = [one for one in published() if one.task == "instructrec" and one.source.endswith(source)]
        for metric, gain in zip(("HR@1", "HR@3", "HR@5", "NDCG@3", "NDCG@5"), wanted, strict=True):
            own = next(one.value for one in found if one.own and one.metric == metric)
            best = max(one.value for one in found if not one.own and one.metric == metric)
            assert 100 * (own / best - 1) == pytest.approx(gain, abs=0.006), (source, metric)


def contradictions(row: list[Published]) -> Iterator[set[str]]:
    """Sets of metrics of one method that cannot all be right, whatever the rounding, with one relevant item.

    An item that is first at place p counts 1 to a hit rate from p on, and f(p) to the others.
    """
    numbers = {one.metric.replace("Recall", "HR"): one.value for one in row}
    names = {one.metric.replace("Recall", "HR"): one.metric for one in row}
    for label in DISCOUNTS:
        if "HR@1" in numbers:  # the same at the first place
            numbers.setdefault(f"{label}@1", numbers["HR@1"])
            names.setdefault(f"{label}@1", names["HR@1"])
    cuts = sorted({int(name.partition("@")[2]) for name in numbers if "@" in name})
    for low, high in combinations((0, *cuts), 2):
        hits = [f"HR@{k}" for k in (low, high) if k]
        if any(name not in numbers for name in hits):
            continue
        more = numbers[hits[-1]] - (numbers[hits[0]] if low else 0.0)
        if more < -2 * HALF_UNIT:
            yield {names[name] for name in hits}
        for label, discount in DISCOUNTS.items():
            used = [f"{label}@{k}" for k in (low, high) if k]
            if any(name not in numbers for name in used):
                continue
            gain = numbers[used[-1]] - (numbers[used[0]] if low else 0.0)
            slack = 4 * HALF_UNIT + 1e-9
            if not more * discount(high) - slack <= gain <= more * discount(low + 1) + slack:
                yield {names[name] for name in hits + used}


BY_OTHERS = {("DuoRec's and FEARec's table, by a transcription", "ML-1M", "FEARec")}
"""Rows that contradict numbers of theirs that are not here."""


def test_the_impossible_numbers_are_those_that_contradict_others() -> None:
    found = 0
    told = [row for row in rows(published()) if (row[0].source, row[0].data, row[0].method) in BY_OTHERS]
    assert len(told) == len(BY_OTHERS)
    assert all(one.impossible and "those at 5 are not here" in one.defects[0] for row in told for one in row)
    for row in (row for row in rows(published()) if row not in told):
        flagged = {one.metric for one in row if one.impossible}
        against = list(contradictions(row))
        for metrics in against:
            assert metrics & flagged, (row[0].table, row[0].method, metrics)
        assert flagged <= set().union(*against), (row[0].table, row[0].method)
        assert not list(contradictions([one for one in row if not one.impossible]))
        found += bool(against)
    assert found == 7
    impossible = {(one.source, one.method, one.metric) for one in published() if one.impossible and not one.independent}
    assert impossible == {
        ("arXiv:2403.13325, Table 2", "CORE", "Recall@5"),
        ("arXiv:2305.07001, Table 7, I1", "GPT-3.5", "HR@5"),
        ("arXiv:2305.07001, Table 8", "GPT-3.5", "HR@5"),
        ("arXiv:2305.07001, Table 8", "GPT-3.5", "NDCG@5"),
    }


def test_hit_rates_are_shares_of_the_questions_where_these_are_few() -> None:
    """500 questions give multiples of 0.002, 1,000 of 0.001."""
    odd = {
        (one.method, one.metric, one.value)
        for one in published()
        if one.metric.startswith(("HR", "Recall")) and one.instances is not None and one.instances <= 1000
        if abs(round(one.value * one.instances) / one.instances - one.value) > HALF_UNIT
    }
    assert odd == {("CORE", "Recall@5", 0.4632), ("GPT-3.5", "HR@5", 0.7566)}


def test_scores_lie_where_scores_can_lie() -> None:
    assert all(0 < one.value < 1 for one in published())


def test_whatever_is_named_exists() -> None:
    groups = registry.baseline_groups()
    for one in published():
        kind = registry.task_kind(one.task)
        options = {option.name: option for option in knobs(kind)}
        assert one.metric in {metric.name for metric in kind.metrics}, one
        assert {*one.shown, *one.needs, *one.stages, *one.open} <= options.keys(), one
        assert {*one.assumed} <= {*one.needs}, one
        assert not {*one.needs} & {*DATA}, one
        (data,) = (options[name] for name in DATA if name in options)
        assert {*one.data_sets, *one.shown[data.name]} <= {*data.choices}, one
        assert {*one.data_sets} <= {*one.shown[data.name]}, one
        for family in one.family:
            group, colon, name = family.partition(":")
            assert not colon or name in groups[group].names, family
        if one.system.tuned is not None:
            tuning = {option.name for option in knobs(registry.task_kind(one.system.tuned))}
            assert {*one.system.tuned_with} <= tuning
        assert one.system.chosen in ("", *options)
        assert (one.system.size is None) == (one.system.architecture is None)
        assert one.source
        assert one.candidates


def test_every_option_that_decides_something_is_asked_for_or_left_open() -> None:
    """A run is told by all options that are in its identity; of a baseline, by those that decide its questions."""
    for one in published():
        asked = {*one.needs, *one.stages, *one.open, *one.shown, one.system.chosen}
        reads = one.system.architecture is not None
        for option in knobs(registry.task_kind(one.task)):
            if option.hashed and not option.tuning and (reads or option.instances):
                assert option.name in asked, f"{one.table}, {one.method}: nothing is said of {option.name}"


@pytest.mark.slow
def test_what_is_needed_can_be_asked_for() -> None:
    for one in (row[0] for row in rows(published())):
        kind = registry.task_kind(one.task)
        first = {name: values[0] for name, values in one.needs.items()}
        for name, values in one.needs.items():
            for value in values:
                registry.build(kind, {**first, name: value}, one.table)
        defaults = {option.name: said(option.default) for option in knobs(kind)}
        for name in one.assumed:
            assert one.needs[name] == (defaults[name],), (one.table, name)


@pytest.mark.slow
def test_what_is_open_and_no_draw_decides_no_question() -> None:
    """Masking where candidates are given, and the number of candidates where all items are."""

    def asked(task: str, *settings: str) -> list[object]:
        found = registry.task(task, settings).instances("test")
        return [(one.id, one.history, one.candidates, one.relevance, one.excluded) for one in islice(found, 100)]

    for scenario in ("sequential", "product-search", "personalised-search"):
        words = [f"scenario={scenario}", *(["intention=I2"] if scenario != "sequential" else [])]
        first, *others = (asked("instructrec", f"masking={rule}", *words) for rule in ("seen", "none", "recbole"))
        assert first
        assert all(other == first for other in others)
    assert asked("sequential", "negatives=99") == asked("sequential", "negatives=3", "candidate_seed=1")


def test_every_method_of_a_paper_is_said_to_be_something() -> None:
    for file in REFERENCE.glob("*.toml"):
        found = tomllib.loads(file.read_text("utf-8"))
        methods = {name for table in found["table"] for name in table["methods"]}
        assert methods == found["systems"].keys(), file.name


def test_a_number_is_shown_beside_runs_of_its_settings() -> None:
    numbers = published()
    small = beside(numbers, "palr", "test", {"dataset": "ml-100k", "top": 50})
    assert {one.data for one in small} == {"ML-1M"}
    assert {one.data_sets for one in small} == {("ml-1m",)}
    assert beside(numbers, "palr", "valid", {"dataset": "ml-100k"}) == []
    assert beside(numbers, "palr", "test", {}) == []
    full = {"dataset": "ml-1m", "k_core": 5, "candidates": "full"}
    assert all(one.independent for one in beside(numbers, "sequential", "test", full))
    assert beside(numbers, "sequential", "test", full, independent=False) == []
    assert len(rows(small)) == 7
    assert [one.metric for one in rows(small)[0]] == ["HR@10", "NDCG@10"]


def test_the_setting_and_the_defects_of_a_number() -> None:
    (core,) = (one for one in published() if one.method == "CORE" and one.metric == "Recall@5" and one.data != "MIND")
    assert core.impossible
    assert core.setting == "Amazon-M2"
    assert core.family == ("recbole:CORE",)
    (other,) = (one for one in published() if one.method == "CORE" and one.metric == "Recall@3" and one.data != "MIND")
    assert not other.impossible
    assert core.defects == ("below its Recall@3 and equal to its MRR@5: a slip in copying", *other.defects)
    tuned = next(one for one in published() if one.method == "TALLRec" and one.shots == 64)
    assert (tuned.setting, tuned.system.size, tuned.instances, tuned.rarer) == (
        "K=64, MovieLens-100K",
        6738415616,
        1000,
        472,
    )
    asked = next(one for one in published() if one.method == "GPT-3.5" and one.source.endswith("Table 6"))
    assert asked.instances == 500
    assert {one.family for one in published() if one.method == "PopRec"} == {("simple:popularity", "recbole:Pop")}


def test_the_printed_layout() -> None:
    (movie,) = reported("tallrec", "test", {"domain": "movie"})
    assert movie.columns == ["K", "GRU4Rec", "Caser", "SASRec", "DROS", "GRU-BERT", "DROS-BERT", "TALLRec"]
    assert movie.rows[1] == [64, 0.4987, 0.5106, 0.5048, 0.5154, 0.5165, 0.5171, 0.6748]
    assert (movie.metric, movie.own, movie.source) == ("AUC", "TALLRec", "arXiv:2305.00447, Table 1")
    hits, gain = reported("palr", "test", {"dataset": "amazon-beauty"}, sampled=True)
    assert (hits.metric, gain.metric, hits.own) == ("HR@10", "NDCG@10", "PALR_v2")
    assert hits.rows == [["Beauty", 0.0299, 0.0293, 0.0194, 0.0282, 0.0617, 0.0181, 0.0721]]
    assert hits.columns[0] == "data"
    assert hits.note.endswith("; of all instances, and the rows above of a sample")
    assert reported("sequential", "test", {"dataset": "ml-1m", "k_core": 5, "candidates": "full"}) == []


TABLE = """
[systems.A]
family = "simple:random"
[[table]]
task = "palr"
split = "test"
source = "S, Table 9"
note = "n"
own = "A"
data = "D"
settings = {dataset = "ml-1m"}
data_sets = ["ml-1m"]
candidates = "all"
metrics = ["HR@10", "NDCG@10"]
methods = {A = [0.5, 0.25], B = [0.125, 1]}
"""


def test_a_table_becomes_numbers(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "one.toml").write_text(TABLE)
    (tmp_path / "below" / "two.toml").write_text(TABLE)
    (tmp_path / "notes.txt").write_text("none of it")
    found = published(tmp_path)
    assert [one.table for one in found] == ["one.toml, table 1"] * 4 + ["below/two.toml, table 1"] * 4
    assert [(one.method, one.metric, one.value) for one in found[:4]] == [
        ("A", "HR@10", 0.5),
        ("A", "NDCG@10", 0.25),
        ("B", "HR@10", 0.125),
        ("B", "NDCG@10", 1.0),
    ]
    assert [one.family for one in found[1:3]] == [("simple:random",), ("B",)]


def test_the_numbers_of_several_k() -> None:
    text = TABLE.replace('own = "A"', 'own = "A"\nshots = [16, 64]').replace("0.25]", "0.25, 0.75, 0.375]")
    found = parse(text.replace(", B = [0.125, 1]", ""), "x.toml")
    assert [(one.shots, one.metric, one.value) for one in found] == [
        (16, "HR@10", 0.5),
        (16, "NDCG@10", 0.25),
        (64, "HR@10", 0.75),
        (64, "NDCG@10", 0.375),
    ]
    assert [[one.setting for one in row] for row in rows(found)] == [["K=16, D"] * 2, ["K=64, D"] * 2]


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("[[table]]", "[[table", "x.toml is not TOML: "),
        ("[systems.A]", "[system.A]", "x.toml: no key 'system'; did you mean 'systems'?"),
        ('family = "simple:random"', "", "x.toml, system A: family is missing"),
        ("family", "famly", "x.toml, system A: no field 'famly'; did you mean 'family'?"),
        ("[systems.A]", "[systems.C]", "x.toml, system C: no table has a number of it; is the name right?"),
        ('note = "n"', "", "x.toml, table 1 (S, Table 9): note is missing"),
        ('note = "n"', "note = 1", "x.toml, table 1 (S, Table 9): note should be a valid string"),
        ('note = "n"', 'nota = "n"', "x.toml, table 1 (S, Table 9): no field 'nota'; did you mean 'note'?"),
        ("0.25]", '"0.25"]', "x.toml, table 1 (S, Table 9): methods.A.1 should be a valid number"),
        (", 0.25]", "]", "x.toml, table 1 (S, Table 9) has 1 numbers of A for 2 columns"),
        ("0.25", "nan", "x.toml, table 1 (S, Table 9) has a number of A that is not finite"),
        ('own = "A"', 'own = "C"', "x.toml, table 1 (S, Table 9) names 'C', which it has no number of"),
        (
            "methods = {A = [0.5, 0.25], B = [0.125, 1]}",
            'defects = [{reason = "r", metrics = ["HR@5"]}]\nmethods = {A = [0.5, 0.25]}',
            "x.toml, table 1 (S, Table 9) names 'HR@5', which it has no number of",
        ),
        ('metrics = ["HR@10", "NDCG@10"]', "", "x.toml, table 1 (S, Table 9): metrics is missing"),
        (
            'note = "n"',
            'note = "n"\nassumed = ["masking"]',
            "x.toml, table 1, A: 'masking' is assumed, but not among its needs",
        ),
        (
            'note = "n"',
            'note = "n"\nopen = ["top"]\nneeds = {top = 5}',
            "x.toml, table 1, A: 'top' is open, and asked for as well",
        ),
        ("methods =", "shots = [1, 2, 3]\nmethods =", "x.toml, table 1 (S, Table 9) has 2 numbers of A for 6 columns"),
    ],
)
def test_an_error_names_the_file_and_the_table(old: str, new: str, wrong: str) -> None:
    with pytest.raises(BadData) as error:
        parse(TABLE.replace(old, new), "x.toml")
    assert str(error.value).startswith(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "text"), [(None, "none"), (True, "true"), (5.0, "5"), (0.2, "0.2"), (5, "5"), ("v1", "v1"), ("", "")]
)
def test_values_are_said_as_options_say_them(given: object, text: str) -> None:
    assert said(given) == text
