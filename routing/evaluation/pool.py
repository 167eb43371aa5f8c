"""Routing among many models with known cost: RouterBench's AIQ.

Source: RouterBench (arXiv 2403.12031, withmartian/routerbench): each setting of a router is a
point (mean cost, mean quality); the non-decreasing convex hull of the points is reached
by mixing settings; AIQ is the area under the hull, over the range of costs compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frontier:
    """Mean cost and mean quality of a router's settings, and their hull.

    Attributes:
        cost: shape (k,), mean cost per question, in the unit of the costs passed in.
        quality: shape (k,), mean score.
    """

    cost: Floats
    quality: Floats

    def hull(self) -> tuple[Floats, Floats]:
        """Return the corners of the non-decreasing convex hull: costs and qualities, rising."""
        order = np.lexsort((-self.quality, self.cost))
        corners: list[tuple[float, float]] = []
        for x, y in zip(self.cost[order].tolist(), self.quality[order].tolist(), strict=True):
            if corners and y <= corners[-1][1]:
                continue
            while len(corners) >= 2 and _left_turn(corners[-2], corners[-1], (x, y)):
                corners.pop()
            corners.append((x, y))
        xs, ys = zip(*corners, strict=True)
        return np.array(xs), np.array(ys)

    def aiq(self, lowest_cost: float, highest_cost: float) -> float:
        """Return the mean quality of the hull between two costs, flat outside its corners."""
        xs, ys = self.hull()
        inner = xs[(xs > lowest_cost) & (xs < highest_cost)]
        grid = np.concatenate(([lowest_cost], inner, [highest_cost]))
        area = float(np.trapezoid(np.interp(grid, xs, ys), grid))
        return area / (highest_cost - lowest_cost)


def _left_turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Return whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def pool_frontier(p_good: Floats, score: Floats, cost: Floats, *, points: int = 41) -> Frontier:
    """Route by max(P(good) - price x cost) for a range of prices.

    Args:
        p_good: shape (n, m), predictions.
        score: shape (n, m), recorded.
        cost: shape (n, m) or (m,), of each answer; any unit.
        points: number of prices, from cost without weight to cost alone.
    """
    costs = np.broadcast_to(cost, score.shape)
    unit = float(np.ptp(costs.mean(axis=0))) or 1.0
    prices = np.concatenate(([0.0], np.geomspace(1e-3, 1e3, points - 1))) / unit
    rows = np.arange(len(score))
    xs: list[float] = []
    ys: list[float] = []
    for price in prices:
        chosen = np.argmax(p_good - price * costs, axis=1)
        xs.append(float(costs[rows, chosen].mean()))
        ys.append(float(score[rows, chosen].mean()))
    return Frontier(np.array(xs), np.array(ys))
