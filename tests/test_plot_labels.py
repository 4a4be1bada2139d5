"""Where names stand beside points."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.plot_labels import Box, leader, place

Pair = tuple[float, float]
sizes = st.tuples(st.floats(5, 120), st.floats(5, 12))
spots = st.tuples(st.floats(0, 500), st.floats(0, 300))


@pytest.mark.slow
@given(st.lists(st.tuples(spots, sizes), max_size=6))
@settings(max_examples=20)
def test_every_name_keeps_its_size_and_stays_inside(names: list[tuple[Pair, Pair]]) -> None:
    within = Box(0, 0, 500, 300)
    anchors, wanted = [anchor for anchor, _ in names], [size for _, size in names]
    boxes = place(anchors, wanted, within)
    assert boxes == place(anchors, wanted, within)
    for box, (wide, high) in zip(boxes, wanted, strict=True):
        assert (box.right - box.left, box.top - box.bottom) == pytest.approx((wide, high))
        assert box.left >= -1e-9
        assert box.bottom >= -1e-9
        assert box.right <= 500 + 1e-9
        assert box.top <= 300 + 1e-9
    for a, b in combinations(boxes, 2):  # so few fit beside each other wherever their points are
        assert a.right <= b.left or b.right <= a.left or a.top <= b.bottom or b.top <= a.bottom


def test_a_name_with_free_room_stands_right_of_its_point() -> None:
    (box,) = place([(100, 100)], [(50, 10)], Box(0, 0, 500, 300), [Box(96, 96, 104, 104)])
    assert 104 <= box.left <= 110
    assert (box.bottom + box.top) / 2 == pytest.approx(100)
    (box,) = place([(490, 100)], [(50, 10)], Box(0, 0, 500, 300), [Box(486, 96, 494, 104)])
    assert box.right <= 486 or box.bottom >= 104 or box.top <= 96


def test_a_line_leads_to_a_name_that_is_far() -> None:
    assert leader(Box(105, 95, 155, 105), (100, 100)) is None
    assert leader(Box(130, 95, 180, 105), (100, 100)) == ((100, 100), (130, 100))
    assert leader(Box(60, 140, 90, 150), (100, 100)) == ((100, 100), (90, 140))
