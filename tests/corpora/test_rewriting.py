"""A document in other tokens: what comes out, and where every token of the original went."""

import numpy as np
import pytest

from raysae.corpora import rewriting


def followed(tokens: np.ndarray, text: rewriting.Rewritten) -> bool:
    """Every token that is left is where it is said to be."""
    left = text.at >= 0
    return bool((text.tokens[text.at[left]] == tokens[left]).all() and (np.diff(text.at[left]) > 0).all())


def one_by_one(tokens: list[int], places: dict[int, int]) -> tuple[list[int], list[int]]:
    out: list[int] = []
    at: list[int] = []
    for i, token in enumerate(tokens):
        if i in places:
            out.append(places[i])
        at.append(len(out))
        out.append(token)
    return out, at


def test_words_are_put_in_where_they_may_be_and_everything_behind_moves_right():
    tokens, places = np.arange(10, 50), np.array([3, 4, 20, 39])
    for seed in range(20):
        text = rewriting.insert(tokens, places, np.array([1, 2]), 3, 99, np.random.default_rng(seed))
        put = {i: int(text.tokens[text.at[i] - 1]) for i in places if text.tokens[text.at[i] - 1] < 10}
        assert len(put) == 3
        assert (text.tokens.tolist(), text.at.tolist()) == one_by_one(tokens.tolist(), put)


def test_no_more_words_are_put_in_than_there_are_places_and_none_where_there_is_none():
    tokens, rng = np.arange(10, 20), np.random.default_rng(0)
    assert len(rewriting.insert(tokens, np.array([5]), np.array([1]), 4, 99, rng).tokens) == 11
    assert rewriting.insert(tokens, np.array([], int), np.array([1]), 4, 99, rng).tokens.tolist() == tokens.tolist()


def test_what_is_pushed_beyond_the_limit_is_no_longer_there():
    tokens = np.arange(10, 20)
    text = rewriting.shift(tokens, np.array([1, 2, 3]), 1, 10)
    assert text.tokens.tolist() == [10, 1, 2, 3, 11, 12, 13, 14, 15, 16]
    assert text.at.tolist() == [0, 4, 5, 6, 7, 8, 9, -1, -1, -1]
    put = rewriting.insert(tokens, np.array([9]), np.array([1]), 1, 10, np.random.default_rng(0))
    assert put.tokens.tolist() == [*range(10, 19), 1] and put.at.tolist() == [*range(9), -1]


def test_a_token_that_is_taken_out_is_nowhere_and_the_rest_closes_up():
    tokens = np.array([5, 6, 7, 8, 9])
    text = rewriting.remove(tokens, np.array([False, True, False, True, False]))
    assert (text.tokens.tolist(), text.at.tolist()) == ([5, 7, 9], [0, -1, 1, -1, 2])
    assert followed(tokens, text)


def test_words_are_exchanged_where_they_stand():
    text = rewriting.exchange(np.array([5, 6, 5, 7]), {5: 6, 6: 5})
    assert (text.tokens.tolist(), text.at.tolist()) == ([6, 5, 6, 7], [0, 1, 2, 3])


def test_no_cue_is_removable_that_alone_carries_a_label_or_is_all_of_a_document():
    #                    one document               | another     | all of it
    cues = np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1], bool)
    first = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    second = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0], bool)
    document = np.repeat([0, 1, 2], [9, 2, 2])
    gone = rewriting.removable(cues, np.stack([first, second], axis=1), document)
    # 3 and 4 are a run of cues; 9 begins a document, so that the label before it is of another run.
    assert np.flatnonzero(gone).tolist() == [0, 6]


@pytest.mark.parametrize("seed", range(5))
def test_removable_agrees_with_a_walk_over_the_runs(seed: int):
    rng = np.random.default_rng(seed)
    cues, factors = rng.random(200) < 0.5, rng.random((200, 3)) < 0.6
    document = np.sort(rng.integers(0, 20, 200))
    stay: set[int] = set()
    for on in [np.ones(200, bool), *factors.T]:
        i = 0
        while i < 200:
            run = [i]
            while on[i] and run[-1] + 1 < 200 and on[run[-1] + 1] and document[run[-1] + 1] == document[i]:
                run.append(run[-1] + 1)
            if on[i] and cues[run].all():
                stay |= set(run)
            i = run[-1] + 1
    expected = [i for i in np.flatnonzero(cues).tolist() if i not in stay]
    assert np.flatnonzero(rewriting.removable(cues, factors, document)).tolist() == expected
