"""Data sets of reasoning text, each normalised to `CorpusRecord`. Synthetic corpora live in `raysae.worlds`."""

from raysae.corpora import gsm8k
from raysae.corpora.base import Corpus, Malformed, Source
from raysae.corpora.gsm8k_labels import VARIABLES as _GSM8K_VARIABLES

CORPORA: dict[str, Corpus] = {
    "gsm8k": Corpus(
        name="gsm8k",
        hub_id=gsm8k.HUB_ID,
        revision=gsm8k.REVISION,
        licence=gsm8k.LICENCE,
        has_cot=True,
        redistribute=True,
        variables=_GSM8K_VARIABLES,
        sources=gsm8k.sources,
        read=gsm8k.read,
    ),
}
"""Every corpus by name."""

__all__ = ["CORPORA", "Corpus", "Malformed", "Source"]
