"""Work done beforehand: the same items in the same order, errors where they belong, and no thread left behind."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from raysae.store.ahead import ahead, map_ahead


def counted(made: list[int], stop: int) -> Iterator[int]:
    for i in range(stop):
        if i == 7:
            raise ValueError("seven")
        made.append(i)
        yield i


def slowly(i: int) -> int:
    time.sleep(0.01 * (i % 3))
    if i == 7:
        raise ValueError("seven")
    return i


WAYS: dict[str, Callable[[int], Iterator[int]]] = {
    "ahead": lambda stop: ahead(counted([], stop), 3),
    "map_ahead": lambda stop: map_ahead(slowly, iter(range(stop)), 2, 3),
}


@pytest.fixture(autouse=True)
def no_thread_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("way", WAYS)
def test_the_same_items_in_the_same_order(way: str) -> None:
    assert list(WAYS[way](7)) == list(range(7))
    assert list(WAYS[way](0)) == []


@pytest.mark.parametrize("way", WAYS)
def test_an_error_comes_when_its_item_is_due(way: str) -> None:
    items = WAYS[way](10)
    assert [next(items) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(items)


def test_no_more_than_the_depth_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []
    items = ahead(counted(made, 7), 3)
    assert next(items) == 0
    time.sleep(0.05)
    assert len(made) <= 4
    items.close()  # type: ignore[attr-defined]
