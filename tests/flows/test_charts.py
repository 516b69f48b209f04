import math
from itertools import pairwise
from xml.etree import ElementTree

from flows.charts import MOST_POINTS, Curve, line_chart


def polyline(chart, kind):
    tree = ElementTree.fromstring(chart)
    points = next(line for line in tree.iter("polyline") if line.get("class") == kind).get("points")
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_a_falling_loss_falls_on_the_page():
    chart = line_chart(Curve(range(100), [1 - n / 200 for n in range(100)]), label="loss")
    raw = polyline(chart, "raw")
    assert len(raw) == 100
    assert all(after[0] > before[0] and after[1] > before[1] for before, after in pairwise(raw))


def test_a_long_log_is_thinned_and_what_is_not_finite_is_left_out():
    values = [float(n % 7) for n in range(10_000)]
    values[5] = math.nan
    chart = line_chart(Curve(range(10_000), values), label="loss")
    assert len(polyline(chart, "raw")) <= MOST_POINTS
    assert "nan" not in chart


def test_labels_are_escaped_and_one_point_is_no_curve():
    assert "<b>" not in line_chart(Curve([0, 1], [1.0, 1.0]), label="<b>")
    assert line_chart(Curve([0], [1.0]), label="loss") == ""
