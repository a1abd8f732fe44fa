"""The front and the choice, against a naive reading of their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysae.falsification.sweeping import Tried, choose, front, margins, non_dominated

ROW = st.lists(st.integers(-2, 2).map(float), min_size=3, max_size=3)


def naive_front(rows: list[list[float]]) -> list[bool]:
    def beats(a: list[float], b: list[float]) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    return [not any(beats(other, row) for other in rows) for row in rows]


@given(st.lists(ROW, min_size=1, max_size=12))
def test_the_front_is_what_no_other_row_beats(rows: list[list[float]]) -> None:
    assert non_dominated(np.array(rows)).tolist() == naive_front(rows)


def tried(margin: float, l0: float, expansion: int = 4, **by_criterion: float) -> Tried:
    return Tried(margin, expansion, l0, by_criterion or {"reconstruction": margin})


def test_a_trial_above_the_cap_is_never_chosen_while_one_below_exists() -> None:
    poor, over = tried(-3.0, l0=6.0), tried(-0.02, l0=6.5)
    assert choose([over, poor], cap=6.4) == 1
    assert front([over, poor], cap=6.4) == [False, True]
    worse = tried(-0.5, l0=9.0)
    assert choose([worse, over], cap=6.4) == 1, "where none is below, the rule goes on without the cap"
    assert front([worse, over], cap=6.4) == [False, True]


def test_ties_go_to_the_smaller_dictionary_then_to_the_smaller_l0() -> None:
    assert choose([tried(0.5, 3.0, expansion=8), tried(0.5, 4.0), tried(0.5, 3.5)], cap=6.4) == 2


def test_the_front_holds_those_that_are_best_at_something() -> None:
    rows = [
        tried(0.5, 4.0, reconstruction=0.5, sparsity=0.5),
        tried(0.2, 2.0, reconstruction=0.2, sparsity=0.9),
        tried(0.1, 3.0, reconstruction=0.1, sparsity=0.6),
    ]
    assert front(rows, cap=6.4) == [True, True, False]


def test_a_margin_is_0_at_its_threshold() -> None:
    at = margins(0.10, 0.90, 0.0, 0.95)
    assert np.allclose(list(at.values()), 0)
    better = margins(0.05, 0.95, 0.0, 0.97)
    assert all(better[name] >= at[name] for name in at)
    assert margins(0.10, 0.90, 0.02, None)["redundancy"] == -0.02 and "alignment" not in margins(0.1, 0.9, 0.0, None)
