"""Sequential test whether a new version is worse; it may be evaluated after every request.

Losses in [0, 1] of the new and the old are paired as they come, each with the freshest of the other
that waits, so that both met the same moment; d is their difference, in [-1, 1].
Against the hypothesis "the new one is worse by no more than ``margin``", a gambler bets a share of
its wealth on each d being larger:

    W(t) = W(t-1) (1 + b(t) (d(t) - margin)),     W(0) = 1,     0 <= b(t) <= 1 / (2 (1 + margin))

with b(t) from the pairs before t only. If the hypothesis is true, W is a supermartingale, and the
probability that it *ever* reaches 1 / alpha is at most alpha (Ville's inequality), however often
one looks. No number of requests has to be fixed beforehand.

Sources: Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting (JRSS B
2024), for the bets; Ville (1939).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

_WAITING = 200


class SequentialTest:
    """Tests whether a new version's losses are larger than the old one's.

    Args:
        margin: how much worse is still accepted; below 0 the new one must be better by so much.
        alpha: probability of a false alarm, ever.
    """

    def __init__(self, margin: float = 0.02, alpha: float = 0.05 / 3) -> None:
        self._margin = margin
        self.limit = 1.0 / alpha
        self._most = 0.5 / (1.0 + margin)
        self._new: deque[float] = deque(maxlen=_WAITING)
        self._old: deque[float] = deque(maxlen=_WAITING)
        self._sum, self._squares = 0.0, 0.25
        self.pairs = 0
        self.wealth = 1.0
        self.alarm = False

    def new(self, loss: float) -> None:
        """Add a loss of the new version, in [0, 1]."""
        self._pair(self._new, self._old, loss, 1.0)

    def old(self, loss: float) -> None:
        """Add a loss of the old version, in [0, 1]."""
        self._pair(self._old, self._new, loss, -1.0)

    def _pair(self, own: deque[float], other: deque[float], loss: float, sign: float) -> None:
        if other:
            self._bet(sign * (loss - other.pop()))
        else:
            own.append(loss)

    def _bet(self, difference: float) -> None:
        over = difference - self._margin
        mean = self._sum / (self.pairs + 1)
        spread = self._squares / (self.pairs + 1)
        bet = min(max(mean / spread, 0.0), self._most)
        self.wealth *= 1.0 + bet * over
        self.pairs += 1
        self._sum += over
        self._squares += over * over
        self.alarm = self.alarm or self.wealth >= self.limit


class WorseTests:
    """One test for each loss of a canary; the first alarm shows that it is worse.

    Args:
        margins: by the name of the loss, how much worse is still accepted.
        alpha: probability of a false alarm of each.

    Attributes:
        worse: the name of the loss whose test raised the alarm first; None while there is none.
    """

    def __init__(self, margins: Mapping[str, float], alpha: float) -> None:
        self.tests = {name: SequentialTest(margin, alpha) for name, margin in margins.items()}
        self.worse: str | None = None

    def add(self, name: str, loss: float, *, canary: bool) -> None:
        """Add a loss in [0, 1], of the canary or of the version it is compared with."""
        test = self.tests[name]
        if canary:
            test.new(loss)
        else:
            test.old(loss)
        if test.alarm and self.worse is None:
            self.worse = name
