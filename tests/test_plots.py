"""Pictures of a leaderboard, read back: what stands where, what is left out, and that nothing hides anything."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from leaderboard.plot_cost import cost
from leaderboard.plot_parts import parts
from leaderboard.plot_scores import scores
from leaderboard.plot_shots import ShotPoint, points_of, shots
from leaderboard.plot_style import COLOURS, LOOKS, settle, style
from leaderboard.plots import pictures
from leaderboard.sheet import Breakdown, Cell, Column, Line, Part, Sheet
from tests.sheets import CHANCE, HEADLINE, HISTORY, LONG, breakdown, cell, large, line, reported, sheet, small

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
CURVES = [ShotPoint("RT", k, v, v - 0.05, v + 0.05) for k, v in ((256, 0.58), (0, 0.31), (16, 0.42), (64, 0.51))]
CURVES += [ShotPoint("RT + IT", k, v, v - 0.05, v + 0.05) for k, v in ((0, 0.31), (16, 0.45), (16, 0.47), (256, 0.6))]


class Read:
    """What an SVG says."""

    def __init__(self, file: Path) -> None:
        self.root = ET.parse(file).getroot()
        self.texts = ["".join(text.itertext()) for text in self.root.iter(f"{SVG}text")]

    def axes(self) -> list[ET.Element]:
        return [group for group in self.root.iter(f"{SVG}g") if group.get("id", "").startswith("axes_")]

    def points(self, axes: int = 0, colours: Sequence[str] = ()) -> list[tuple[float, float]]:
        """Where the markers of these colours stand in a panel; ticks have none of them."""
        wanted = colours or [look.colour for look in LOOKS.values()]
        uses = self.axes()[axes].iter(f"{SVG}use")
        styled = ((use, use.get("style", "")) for use in uses)
        return [
            (float(use.get("x", "nan")), float(use.get("y", "nan")))
            for use, said in styled
            if any(f"stroke: {colour}" in said for colour in wanted)
        ]


def read(folder: Path, found: Sheet, points: Sequence[ShotPoint] | None = None) -> Mapping[str, Read]:
    """Every picture by the end of its name."""
    files = pictures(found, folder / "out" / "movie", ["svg"], points)
    return {file.stem.removeprefix("movie-"): Read(file) for file in files}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Read]:
    return read(tmp_path_factory.mktemp("three"), small(), CURVES)


@pytest.fixture(scope="module")
def drawn() -> Iterator[Mapping[str, Figure]]:
    """All pictures of the two sheets, not written."""
    with style():
        made = {}
        for name, found in (("small", small()), ("large", large())):
            made[f"{name} scores"], made[f"{name} cost"] = scores(found), cost(found)
            made[f"{name} parts"] = parts(found, found.breakdowns[1])
        made["shots"] = shots(small(), CURVES)
        many = [point._replace(name=f"{point.name} {n}") for n in range(4) for point in CURVES]
        made["many shots"] = shots(large(), many)
        figures = {name: figure for name, figure in made.items() if figure is not None}
        assert len(figures) == len(made)
        for figure in figures.values():
            settle(figure)
            figure.draw_without_rendering()  # a legend has no place before
        yield figures


def line_up(places: Sequence[float], values: Sequence[float]) -> bool:
    """Whether the places are the values on an axis that is even."""
    slope, start = np.polyfit(values, places, 1)
    return bool(np.allclose(np.multiply(slope, values) + start, places, atol=0.01))


def test_every_picture_for_which_there_are_numbers_is_written_in_every_format(tmp_path: Path) -> None:
    files = pictures(small(), tmp_path / "new" / "coins-v1.0")
    ends = ("scores", "cost", "by-history", "by-popularity")
    assert [file.name for file in files] == [f"coins-v1.0-{end}.{kind}" for end in ends for kind in ("svg", "png")]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files if file.suffix == ".png")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(file.name for file in files)


def test_the_same_numbers_are_the_same_bytes_whatever_the_reader_has_set(tmp_path: Path) -> None:
    first = pictures(small(), tmp_path / "first" / "movie", ["svg"], CURVES)
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.spines.top": True}):
        second = pictures(small(), tmp_path / "second" / "movie", ["svg"], CURVES)
        assert mpl.rcParams["font.size"] == 20
    assert len(first) == 5
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_scores_have_names_values_and_chance(three: Mapping[str, Read]) -> None:
    found = three["scores"]
    names = [one.name for one in small().lines if one.kind != "chance"]
    for said in (*names, "HR@10, 95 % interval; dotted: chance", "0.5200", "0.4900†", "language model", "adapter"):
        assert said in found.texts
    assert "†: cannot be told from the best: paired differences, Holm's correction." in found.texts
    assert not any("reported" in text for text in found.texts)
    ours = {look.colour: found.points(colours=[look.colour]) for look in LOOKS.values()}
    places = [ours[LOOKS[kind].colour] for kind in ("adapter", "baseline", "language model")]
    assert [len(one) for one in places] == [1, 1, 1]
    across = [one[0][0] for one in places]
    assert line_up(across, [0.52, 0.49, 0.31])
    assert places[0][0][1] < places[1][0][1] < places[2][0][1]


def test_reported_rows_are_told_apart_and_rows_without_a_score_are_named(tmp_path: Path) -> None:
    lines = [replace(one, seconds=None, tokens=None) for one in large().lines]
    found = read(tmp_path, replace(large(), lines=lines, breakdowns=()))["scores"]
    assert "TALLRec, K=256 (reported)" in found.texts
    assert "reported by the paper, not measured here" in found.texts
    assert len(found.points()) == 23
    assert len(found.points(colours=[LOOKS["reported"].colour])) == 3
    assert "Not shown: models/half-done (not complete), simple:recency (n/a)." in found.texts
    assert f"…{LONG[-47:]}" in found.texts
    assert "sampled metric: 100 candidates; sample of 1000; few users: 16" in found.texts
    assert "[sample 1000, seed 0], version 2" in found.texts


def test_a_metric_where_less_is_better_and_has_no_interval_says_so(tmp_path: Path) -> None:
    lines = [Line(name, "baseline", {"Gini@10": Cell(value)}) for name, value in (("a", 0.2), ("b", 0.9))]
    found = replace(sheet(lines), headline="Gini@10", columns=[Column("Gini@10", False, True)])
    assert "Gini@10, lower is better" in read(tmp_path, found)["scores"].texts


def test_cost_is_for_an_instance_and_on_a_log_scale(three: Mapping[str, Read]) -> None:
    found = three["cost"]
    assert "seconds per instance, log scale" in found.texts
    assert "tokens read and written per instance, log scale" in found.texts
    time = found.points(0)
    assert line_up([x for x, _ in time], np.log([0.212, 0.0031, 0.64]).tolist())
    assert line_up([y for _, y in time], [0.52, 0.49, 0.31])
    assert len(found.points(1)) == 2
    assert found.texts.count("recbole:SASRec (budget=ci)") == 1
    assert found.texts.count("models/qwen2.5-0.5b + lora-64") == 2
    ticks = {float(text.replace(",", "")) for text in found.texts if text.replace(",", "").replace(".", "").isdecimal()}
    assert {0.01, 0.1, 500} <= ticks


def test_a_time_from_the_cache_is_no_time(tmp_path: Path) -> None:
    lines = [replace(one, cached=one.kind == "adapter") for one in small().lines]
    found = read(tmp_path, sheet(lines))["cost"]
    assert (len(found.points(0)), len(found.points(1))) == (2, 2)
    note = "No time is shown where answers came from the cache: models/qwen2.5-0.5b + lora-64."
    assert note in found.texts
    lines = [replace(one, cached=one.kind != "baseline", tokens=None) for one in small().lines]
    assert list(read(tmp_path / "one", sheet(lines))) == ["scores"]


def test_of_too_many_points_those_are_named_that_nothing_beats(tmp_path: Path) -> None:
    """Of forty, the score falls with the cost but for two."""
    lines = [line(f"model {n}", "baseline", cell(0.5 - n / 100), n + 1) for n in range(40)]
    lines += [line("better", "baseline", cell(0.6), 10.5), line("dear", "baseline", cell(0.6), 20.5)]
    found = read(tmp_path, sheet(lines))["cost"]
    assert len(found.points()) == 42
    assert {text for text in found.texts if "model" in text or text in ("better", "dear")} == {"model 0", "better"}
    assert any("no other beats or equals" in text for text in found.texts)


def test_parts_have_their_instances_and_what_is_undefined_breaks_the_curve(tmp_path: Path) -> None:
    known = {part.name: cell(0.5 + 0.1 * n) for n, part in enumerate(HISTORY)}
    rows = [
        ("ours", {**known, HISTORY[1].name: Cell(None, why="undefined")}),
        ("theirs", {part.name: cell(0.2) for part in HISTORY}),
        ("nobody", {}),
    ]
    lines = [line("ours", "adapter", cell(0.6), 1), line("theirs", "baseline", cell(0.2), 1), CHANCE]
    whole = sheet(lines, [Breakdown("history", HISTORY, rows)])
    found = read(tmp_path, whole)["by-history"]
    for said in ("n=513", "n=40", "over 5,", "length of the history, and the number of instances", "ours", "theirs"):
        assert said in found.texts
    assert "dotted: chance over all instances" in found.texts
    assert "nobody" not in found.texts
    ours, theirs = found.points(0, COLOURS[:1]), found.points(0, COLOURS[1:2])
    assert (len(ours), len(theirs)) == (3, 4)
    assert line_up([x for x, _ in ours], [0, 2, 3])
    assert line_up([y for _, y in ours], [0.5, 0.7, 0.8])
    with style():
        figure = parts(whole, whole.breakdowns[0])
    assert figure is not None
    (axes,) = figure.axes
    joined = next(curve.get_ydata() for curve in axes.lines if len(curve.get_ydata()) == len(HISTORY))
    assert np.isnan(joined).tolist() == [False, True, False, False]


def test_many_models_have_a_panel_each(drawn: Mapping[str, Figure]) -> None:
    figure = drawn["large parts"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == len(set(titles)) == 20
    assert "recbole:GRU4Rec (budget=ci)" in titles
    below = [axes for axes in figure.axes if any(t.get_visible() and t.get_text() for t in axes.get_xticklabels())]
    assert len(below) == 3


def test_one_part_is_no_breakdown(tmp_path: Path) -> None:
    found = sheet(small().lines, [breakdown("history", [Part("all", 1000)], ["recbole:SASRec (budget=ci)"])])
    assert "by-history" not in read(tmp_path, found)


def test_few_shot_curves_stand_over_their_rows_and_seeds_beside_each_other(three: Mapping[str, Read]) -> None:
    found = three["shots"]
    for said in ("training rows", "RT", "RT + IT", "0", "16", "64", "256", "dotted: chance"):
        assert said in found.texts
    first, second = found.points(0, COLOURS[:1]), found.points(0, COLOURS[1:2])
    assert line_up([x for x, _ in first], [0, 1, 2, 3])
    assert line_up([y for _, y in first], [0.31, 0.42, 0.51, 0.58])
    assert len(second) == 4
    (_, low), (_, high) = second[1:3]
    assert line_up([second[0][1], low, high, second[3][1]], [0.31, 0.45, 0.47, 0.6])
    (seed, _), (other, _) = second[1:3]
    step = first[1][0] - first[0][0]
    assert 0 < other - seed < step / 4


def test_lines_that_differ_in_rows_and_seed_are_one_curve_that_begins_at_their_base(tmp_path: Path) -> None:
    lines = [
        replace(line(f"models/b-16 + lora-{k}-seed-{seed} (hf)", "adapter", cell(score), 1), shots=k, seed=seed)
        for k, seed, score in ((64, 0, 0.6), (64, 1, 0.62), (16, 0, 0.5), (16, 1, 0.49))
    ]
    lines += [
        line("models/b-16 (hf)", "language model", cell(0.3), 1),
        line("models/other (hf)", "language model", cell(0.2), 1),
        replace(line("recbole:GRU4Rec (budget=ci, shots=64, seed=4)", "baseline", cell(0.4), 1), shots=64, seed=4),
        *(replace(reported(k, 0.6 + k / 1000), shots=k) for k in (16, 64, 256)),
    ]
    found = points_of(sheet(lines))
    ours = "models/b-16 + lora-*-seed-* (hf)"
    theirs = "TALLRec (reported)"
    assert [(p.shots, p.value) for p in found if p.name == ours] == [
        *((0, 0.3), (64, 0.6), (16, 0.5), (64, 0.62), (16, 0.49))
    ]
    assert {p.name for p in found} == {ours, "recbole:GRU4Rec (budget=ci)", theirs}
    assert [p.shots for p in found if p.reported] == [16, 64, 256]
    texts = read(tmp_path, sheet(lines))["shots"].texts
    assert {ours, theirs, "0", "16", "64", "256"} <= set(texts)
    assert "recbole:GRU4Rec (budget=ci)" not in texts
    with style():
        assert shots(sheet(lines), [point for point in found if point.reported]) is None


def test_a_model_with_one_number_of_rows_has_no_few_shot_curve() -> None:
    with style():
        assert shots(small(), CURVES[:1]) is None
        assert shots(small(), [CURVES[0], CURVES[0]]) is None
        assert shots(small(), []) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [CHANCE],
        [reported(16, 0.6)],
        [Line("half", "language model", {HEADLINE: Cell(None, why="not complete")}, seconds=3.0, instances=10)],
    ],
)
def test_without_a_score_there_is_no_file(lines: list[Line], tmp_path: Path) -> None:
    assert pictures(sheet(lines, [Breakdown("history", HISTORY, [])]), tmp_path / "out" / "movie") == []
    assert not (tmp_path / "out").exists()


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    names = ["a $\\frac{1}{2$ b", "<b>&amp;</b>", "模型/一", "two\nlines", "50 %_^{}"]
    lines = [line(name, "language model", cell(0.1 * n + 0.2), 2.0**n) for n, name in enumerate(names)]
    files = pictures(sheet(lines), tmp_path / "movie")
    assert len(files) == 4
    for file in files[::2]:
        assert {" ".join(name.split()) for name in names} <= set(Read(file).texts)


def test_no_text_leaves_the_picture(drawn: Mapping[str, Figure]) -> None:
    for name, figure in drawn.items():
        edge = figure.bbox.padded(0.5)
        for text in set(figure.findobj(Text)) - unseen(figure):
            if text.get_visible() and text.get_text().strip():
                box = text.get_window_extent()
                assert edge.x0 <= box.x0 <= box.x1 <= edge.x1, f"{name}: {text.get_text()}"
                assert edge.y0 <= box.y0 <= box.y1 <= edge.y1, f"{name}: {text.get_text()}"


def unseen(figure: Figure) -> set[Text]:
    """Labels of ticks beyond the ends of an axis are made and not drawn."""
    found = set()
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        found |= {text for text in axes.get_xticklabels() if not low <= text.get_position()[0] <= high}
        low, high = sorted(axes.get_ylim())
        found |= {text for text in axes.get_yticklabels() if not low <= text.get_position()[1] <= high}
    return found


def shared(a: Bbox, b: Bbox) -> float:
    """The area that both cover."""
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else float(both.width * both.height)


def test_names_hide_neither_each_other_nor_points_even_in_a_crowd(drawn: Mapping[str, Figure]) -> None:
    """Thirteen baselines within a factor of three and five points of the score, six models at nearly the same cost."""
    for name in ("small cost", "large cost"):
        for axes in drawn[name].axes:
            texts = [text for text in axes.texts if text.get_text()]
            boxes = [text.get_window_extent() for text in texts]
            assert all(shared(a, b) == 0 for a, b in combinations(boxes, 2)), name
            markers = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in _markers(axes)]
            assert len(markers) == len(boxes)
            assert sum(shared(box, marker) > 0 for box in boxes for marker in markers) == 0, name
            inside = axes.bbox.padded(0.5)
            assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def _markers(axes: Axes) -> list[tuple[float, float]]:
    single = [curve.get_xydata()[0] for curve in axes.lines if curve.get_marker() not in ("None", "", None)]
    return [tuple(axes.transData.transform(at)) for at in single]


SEEN: Mapping[str, Sequence[Sequence[float]]] = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as it is seen without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1."""


def lab(colour: str, seen: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """CIE L*a*b* of a colour."""
    rgb = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear = np.clip(np.array(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("palette", [COLOURS, tuple(look.colour for look in LOOKS.values())], ids=["curves", "kinds"])
def test_colours_are_apart_for_every_kind_of_colour_vision(palette: Sequence[str], seen: str) -> None:
    """And where they are least apart, their markers differ: 15 is some seven times what can just be told."""
    placed = {colour: lab(colour, SEEN[seen]) for colour in palette}
    apart = {(a, b): float(np.linalg.norm(placed[a] - placed[b])) for a, b in combinations(palette, 2)}
    assert min(apart.values()) > 15, min(apart, key=lambda pair: apart[pair])


def test_pictures_need_no_window_system() -> None:
    probe = "import sys, leaderboard.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
