"""Student's t, its intervals, and comparisons seed by seed."""

import math
import random

import pytest

from d2l_deeprnn.evidence.intervals import (
    block_interval,
    difference_table,
    mean_interval,
    paired_difference,
    t_probability,
    t_quantile,
)

# Degrees of freedom -> quantiles of 97.5 % and of 99.95 %, from printed tables
TABLE = {1: (12.706, 636.619), 2: (4.303, 31.599), 3: (3.182, 12.924), 4: (2.776, 8.610)}
TABLE.update({5: (2.571, 6.869), 10: (2.228, 4.587), 30: (2.042, 3.646)})


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_printed_tables(degrees):
    for probability, expected in zip((0.975, 0.9995), TABLE[degrees]):
        found = t_quantile(probability, degrees)
        assert found == pytest.approx(expected, abs=0.0006)
        assert t_quantile(1 - probability, degrees) == pytest.approx(-found)
        assert t_probability(found, degrees) == pytest.approx(probability)


def test_the_interval_of_a_mean():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    margin = 2.776 * math.sqrt(2.5 / 5)
    assert found == pytest.approx((3, 3 - margin, 3 + margin), abs=1e-3)
    assert found.contains(1.1) and not found.contains(1.0)
    # Bonferroni for 5 intervals: the quantile of 99.5 %
    wider = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], comparisons=5)
    assert wider.high - 3 == pytest.approx(4.604 * math.sqrt(0.5), abs=1e-3)


def test_intervals_contain_the_truth_as_often_as_they_promise():
    draw = random.Random(0)
    means = 0
    for _ in range(2000):
        means += mean_interval([draw.gauss(3, 2) for _ in range(4)]).contains(3)
    assert means / 2000 == pytest.approx(0.95, abs=0.015)


def test_differences_are_paired_by_seed():
    def rows(*losses):
        return [{"seed": seed, "test": loss} for seed, loss in losses]

    others = rows((1, 1.0), (2, 5.0), (3, 3.0))
    found = [
        paired_difference(("a", "b"), rows((3, 2.5), (1, 0.5), (2, 4.6)), others),
        paired_difference(("c", "b"), rows((1, 1.5), (2, 5.4)), others),
        paired_difference(("d", "b"), rows((2, 5.1), (4, 0.0)), others),
    ]
    assert [row.mean for row in found] == pytest.approx([-1.4 / 3, 0.45, 0.1])
    table = difference_table("", ["", "less", "it"], found, verdict=("helps", "harms", "noise"))
    assert list(table.columns) == ["", "less", "mean", "interval", "it"]
    assert [row[0] + " " + row[-1] for row in table.rows] == ["a helps", "c noise", "d noise"]
    assert table.rows[2][2:4] == ["+0.100", "one seed"]


def test_intervals_over_a_text_contain_the_truth_as_often_as_they_promise():
    draw = random.Random(0)
    found = [block_interval([draw.gauss(3, 2) for _ in range(35)]) for _ in range(300)]
    assert sum(interval.contains(3) for interval in found) / 300 == pytest.approx(0.94, abs=0.03)
    assert block_interval([1.0, 2.0, 3.0] * 10, 5).high > block_interval([1.0, 2.0, 3.0] * 10).high


def test_a_difference_over_blocks_is_noise_if_one_of_its_intervals_says_so():
    def rows(shift, spread):
        blocks = " ".join(str(shift + spread * (-1) ** i) for i in range(20))
        return [{"seed": seed, "test": shift + seed / 1000, "blocks": blocks} for seed in (1, 2, 3)]

    found = [
        paired_difference(("a",), rows(1.1, spread), rows(1.0, 0.0), blocks="blocks")
        for spread in (0.01, 1.0)
    ]
    assert [row.mean for row in found] == pytest.approx([0.1, 0.1])
    assert [row.over_text.middle for row in found] == pytest.approx([0.1, 0.1])
    table = difference_table("", ["", "more than noise"], found)
    expected = ["", "mean", "interval over seeds", "over the test text", "more than noise"]
    assert list(table.columns) == expected
    assert [row[-1] for row in table.rows] == ["yes", "no"]
