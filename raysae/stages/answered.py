"""What share of its questions a small model answers, writing on by itself."""

from collections.abc import Sequence

import tokenizers
import transformers

from raysae.models.decoding import continue_greedily

AT_ONCE = 64


def answered(
    model: transformers.GPT2LMHeadModel, tokenizer: tokenizers.Tokenizer, texts: Sequence[str], asks: str
) -> float:
    """The share of the texts with a question whose last word is found by writing on from it, word by likeliest word."""
    model.eval()
    asked = [words for words in (text.split() for text in texts) if asks in words]
    eos, right = model.config.eos_token_id, 0
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        prompts = [tokenizer.encode(" ".join(words[: words.index(asks) + 1])).ids for words in some]
        room = model.config.n_positions - max(map(len, prompts))
        written = continue_greedily(model, prompts, room, ends=lambda added: added[-1] == eos)
        said = (tokenizer.decode(added).split() for added in written)
        right += sum(found[-1:] == words[-1:] for found, words in zip(said, some, strict=True))
    return right / max(len(asked), 1)
