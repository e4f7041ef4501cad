"""Design, section 8: linear in records, whatever the shape of the run. Operations are counted: the
same number each time, on any machine."""

from __future__ import annotations

import pytest

from benchmarks.shapes import LINEAR, SHAPES, growth


@pytest.mark.parametrize("shape", SHAPES)
def test_linear(shape):
    counts, grown = growth(SHAPES[shape], 16)
    assert grown <= LINEAR, f"{shape}: {counts} operations at 16, 32 and 64"


def _pairs(count):
    def work():
        for _ in range(count * 20):
            pass
        for one in range(count):
            for other in range(count):
                one + other

    return work


def _members(count):
    known = list(range(count))
    return lambda: [list.index(known, each) for each in known for _ in known]


@pytest.mark.parametrize("square", [_pairs, _members])
def test_what_is_counted_finds_a_square(square):
    assert growth(square, 16)[1] > LINEAR + 0.1
