"""Which steps probes are asked about: as many of each type at each place of the text, the excess left out.

A report stands late and what is given early, so where a step stands would tell its type. A step is kept with a chance
that makes every type as frequent in a stretch of the text as the rarest there.
"""

from raysae.types.experiment import stream_seed
from raysae.worlds.controlled_cot.words import DECOMPOSE, FORMAT, OPERATE, PARSE, STEP_TYPES, VERIFY

WIDTH = 8
"""Tokens of a stretch; about ten of them hold all that is kept."""
PER_THOUSAND: dict[str, tuple[int, ...]] = {
    PARSE: (0, 0, 0, 100, 229, 188, 136, 128, 110, 82, 55, 34, 17, 8, 1),
    DECOMPOSE: (0, 0, 15, 116, 182, 152, 129, 132, 126, 113, 95, 60, 31, 10, 2),
    OPERATE: (0, 0, 13, 126, 282, 382, 340, 304, 284, 278, 254, 220, 159, 82, 24),
    VERIFY: (0, 0, 0, 2, 16, 47, 82, 124, 158, 189, 206, 205, 191, 122, 33),
    FORMAT: (0, 0, 0, 3, 27, 67, 83, 103, 98, 106, 118, 144, 180, 231, 230),
}
"""Steps of each type in each stretch of a thousand plain documents, counted over 20,000."""


def kept(number: int, index: int, kind: str, position: int) -> bool:
    """Whether step `index` of record `number`, complete at token `position`, is asked about."""
    stretch = position // WIDTH
    if stretch >= len(PER_THOUSAND[kind]) or not PER_THOUSAND[kind][stretch]:
        return False
    chance = min(PER_THOUSAND[one][stretch] for one in STEP_TYPES) / PER_THOUSAND[kind][stretch]
    return stream_seed(number, f"balance/{index}") / 2**63 < chance
