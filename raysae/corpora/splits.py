"""TRAIN, FIT or TEST for every problem: by the source's own split, else by a hash of the problem.

FIT and TEST of the source are kept; every other row, the source's own training rows among them, is divided by a hash of
its problem, so that all rows of one problem fall together and the number of records or workers changes nothing. A
problem that occurs on both sides goes wholly to the more locked side.
"""

import hashlib
import unicodedata
from collections.abc import Mapping

from raysae.types import CorpusRecord, Split
from raysae.types.experiment import SplitShares, stream_seed

LOCK_ORDER = {Split.TRAIN: 0, Split.FIT: 1, Split.TEST: 2}
"""The larger, the more locked."""


def problem_key(record: CorpusRecord) -> str:
    """SHA-256 of the original question (NFKC, no case, single spaces): what makes two rows one problem."""
    question = str(record.extras.get("original_question") or record.question)
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", question).casefold().split()).encode()).hexdigest()


def assign_split(
    key: str, native: Split | None, locked: Mapping[str, Split], shares: SplitShares, has_native_test: bool, seed: int
) -> Split:
    """The split of a row with problem `key`.

    `locked` holds the split of every problem that its source puts in FIT or TEST (TEST where it does both); it decides
    before the row's own split and the hash. With `has_native_test` the hash gives no TEST. `seed` is the experiment's.
    """
    if native is Split.FIT or native is Split.TEST:
        return max(native, locked.get(key, native), key=LOCK_ORDER.__getitem__)
    if key in locked:
        return locked[key]
    digest = hashlib.sha256(f"{stream_seed(seed, 'splits')}:{key}".encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    if uniform < shares.fit:
        return Split.FIT
    if not has_native_test and uniform < shares.fit + shares.test:
        return Split.TEST
    return Split.TRAIN
