"""Strict interchange-intervention training: known variables at a declared site of a small model (SCIENCE 4.1, T2).

At the site a fixed random rotation of the residual stream has a block of coordinates for each variable of a world's
program, and a rest. Beside predicting the next token, the model is trained to do what the program does when coordinates
are exchanged between texts: each block comes from another text, and the answers must be the program's with the values
of those texts. The rest, and all that stands on the words which the variables are read from, comes from others as well
and must change nothing: so a variable lives in its block, and nowhere else.

Sources: interchange-intervention training, arXiv 2112.00826; its strict form, arXiv 2407.14494.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import tokenizers
import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from raysae.models.capture import splice
from raysae.models.circuit import KnownCircuit
from raysae.types import HookPoint

IGNORED = -100
"""Target id where nothing is asked."""
PLAIN = 8
"""One text in so many keeps its own values, and all its words are predicted."""
LEAST_ACCURACY, LEAST_INTERCHANGE, MOST_EFFECT = 0.99, 0.95, 0.02
"""The gate (SCIENCE 4.1)."""


class Program(Protocol):
    """A text that a world's program answers."""

    @property
    def words(self) -> Sequence[str]:
        """All up to the site, which is the last of them."""
        ...

    @property
    def state(self) -> dict[str, str]:
        """Variable -> its value."""
        ...

    def answers(self, state: dict[str, str]) -> Sequence[str] | None:
        """The words behind the site, as many for every text; None where this text has no answer to such values."""
        ...


@dataclass(frozen=True)
class Circuit:
    """What is to live where."""

    read: Callable[[str], Program]
    """From a text."""
    hookpoint: HookPoint
    dimensions: Mapping[str, int]
    """Variable -> coordinates of its block."""
    sources: tuple[int, ...]
    """Places of the words that the variables are read from, the same in every text."""


class Exchange(NamedTuple):
    """Texts of which parts come from others; rows of tensors are texts."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    """The ids that must be predicted."""
    sites: Int[Tensor, " b"]
    parts: Int[Tensor, "b p"]
    """The row that each block at the site is taken from, the rest last."""
    words: Int[Tensor, " b"]
    """The row that the residuals on the source words are taken from."""


class InterchangeTraining:
    """One circuit in one rotation of `d_model` coordinates drawn from `seed`."""

    def __init__(self, circuit: Circuit, tokenizer: tokenizers.Tokenizer, eos: str, d_model: int, seed: int) -> None:
        self.circuit, self.read, self.tokenizer = circuit, circuit.read, tokenizer
        [self.eos] = self._ids([eos])
        noise = torch.randn((d_model, d_model), generator=torch.Generator().manual_seed(seed))
        self.rotation: Float[Tensor, "d d"] = torch.linalg.qr(noise)[0]
        sizes = [*circuit.dimensions.values()]
        sizes.append(d_model - sum(sizes))
        self.part = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        """[d] the part that a coordinate belongs to: a variable's place, or behind them the rest."""
        blocks = zip(circuit.dimensions, self.rotation.split(sizes), strict=False)
        self.known = KnownCircuit(circuit.hookpoint, dict(blocks))
        self.rng = random.Random(seed)

    def draw(self, texts: Sequence[Program]) -> Exchange:
        """One in PLAIN keeps its own blocks, of the others every block comes from a text of its own; the rest and the
        source words come from another one in all of them, so that no text pays for reading past the blocks."""
        size, variables = len(texts), len(self.circuit.dimensions)
        plain = [row % PLAIN == 0 for row in range(size)]
        parts = [[row if plain[row] else self.rng.randrange(size) for _ in range(variables)] for row in range(size)]
        rests, words = ([self.rng.randrange(size) for _ in range(size)] for _ in ("rest", "words"))
        return self.exchange(texts, [[*own, rest] for own, rest in zip(parts, rests, strict=True)], words, plain)

    def exchange(
        self, texts: Sequence[Program], parts: list[list[int]], words: list[int], plain: Sequence[bool]
    ) -> Exchange:
        """What is to be predicted when every part comes from the row that is named; a value to which a text has no
        answer is left where it was. All of a `plain` text is predicted, of any other the answers alone."""
        rows, asked = [], []
        for row, text in enumerate(texts):
            state = text.state
            answers = text.answers(state)
            for place, variable in enumerate(self.circuit.dimensions):
                other = {**state, variable: texts[parts[row][place]].state[variable]}
                if (found := text.answers(other)) is None:
                    parts[row][place] = row
                else:
                    state, answers = other, found
            assert answers is not None, "a text has answers"
            prompt, said = self._ids(text.words), self._ids(answers)
            rows.append([*prompt, *said, self.eos])
            asked.append([*prompt, *said, self.eos] if plain[row] else [IGNORED] * len(prompt) + said)
        width = max(map(len, rows))
        return Exchange(
            ids=torch.tensor([_padded(ids, width, self.eos) for ids in rows]),
            targets=torch.tensor([_padded(ids, width, IGNORED) for ids in asked]),
            sites=torch.tensor([len(text.words) - 1 for text in texts]),
            parts=torch.tensor(parts),
            words=torch.tensor(words),
        )

    def logits(self, model: transformers.GPT2LMHeadModel, batch: Exchange) -> Float[Tensor, "b t1 vocab"]:
        """At every position but the last, with the parts exchanged."""
        rows, places = torch.arange(len(batch.ids)), torch.tensor(self.circuit.sources)

        def edit(hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            at_site = (hidden[rows, batch.sites] @ self.rotation.T).gather(0, batch.parts[:, self.part])
            hidden[:, places] = hidden[batch.words][:, places]
            hidden[rows, batch.sites] = at_site @ self.rotation
            return hidden

        with splice(model, self.circuit.hookpoint, edit):
            return model(batch.ids[:, :-1], use_cache=False).logits

    def loss(self, model: transformers.GPT2LMHeadModel, batch: Exchange) -> Tensor:
        """Mean over the answers of exchanged texts, plus mean over all words of plain ones, in nats."""
        logits, targets = self.logits(model, batch), batch.targets[:, 1:]
        plain = targets[:, 0] != IGNORED

        def mean(some: Bool[Tensor, " b"]) -> Tensor:
            return F.cross_entropy(logits[some].flatten(0, 1), targets[some].flatten(), ignore_index=IGNORED)

        return mean(~plain) + mean(plain)

    def measure(self, model: transformers.GPT2LMHeadModel, texts: Sequence[Program]) -> dict[str, Any]:
        """What the gate asks, on texts that were not trained on.

        A text is right when all its answers are: as it is, or with one variable's block from a text where it has
        another value. The effect of the rest, and that of the source words, is the share of texts where some answer
        changes with what stands there.
        """
        model.eval()
        plain, right, _ = self._answer(model, texts)
        variables = self.circuit.dimensions
        found: dict[str, Any] = {"accuracy": _share(right), "interchange_accuracy": {}}
        for place, variable in enumerate(variables):
            _, right, sources = self._answer(model, texts, part=place)
            values = [text.state[variable] for text in texts]
            brought = torch.tensor([values[row] != values[source] for row, source in enumerate(sources)])
            found["interchange_accuracy"][variable] = _share(right[brought])
        found["effect_of_rest"] = _share((self._answer(model, texts, part=len(variables))[0] != plain).any(dim=1))
        found["effect_of_source_words"] = _share((self._answer(model, texts, words=True)[0] != plain).any(dim=1))
        return found

    @torch.no_grad()
    def _answer(
        self,
        model: transformers.GPT2LMHeadModel,
        texts: Sequence[Program],
        part: int | None = None,
        words: bool = False,
    ) -> tuple[Int[Tensor, "n a"], Bool[Tensor, " n"], list[int]]:
        """Predicted answers, whether all are the program's, and the row that `part` came from: one part, or the source
        words, of another text."""
        rng, own = random.Random(0), list(range(len(texts)))
        others = [rng.randrange(len(texts)) for _ in own]
        places = range(len(self.circuit.dimensions) + 1)
        parts = [[others[row] if place == part else row for place in places] for row in own]
        batch = self.exchange(texts, parts, others if words else own, [False] * len(texts))
        targets = batch.targets[:, 1:]
        asked = targets != IGNORED
        found, wanted = (x[asked].view(len(texts), -1) for x in (self.logits(model, batch).argmax(dim=-1), targets))
        return found, (found == wanted).all(dim=1), [int(row[part or 0]) for row in batch.parts]

    def _ids(self, words: Sequence[str]) -> list[int]:
        return self.tokenizer.encode(" ".join(words)).ids


def missed(found: Mapping[str, Any]) -> list[str]:
    """In words, where a measured model falls short of the gate."""
    accuracy, interchange = found["accuracy"], found["interchange_accuracy"]
    said = [f"accuracy {accuracy:.3f}, asked: {LEAST_ACCURACY} or more"] if accuracy < LEAST_ACCURACY else []
    said += [
        f"interchange accuracy of {variable} {rate:.3f}, asked: {LEAST_INTERCHANGE} or more"
        for variable, rate in sorted(interchange.items())
        if rate < LEAST_INTERCHANGE
    ]
    said += [
        f"{name.replace('_', ' ')} {found[name]:.3f}, asked: {MOST_EFFECT} or less"
        for name in ("effect_of_rest", "effect_of_source_words")
        if found[name] > MOST_EFFECT
    ]
    return said


def told(found: Mapping[str, Any]) -> list[str]:
    """What was measured and whether the gate is passed, for a person."""
    rates = ", ".join(f"{variable} {rate:.3f}" for variable, rate in sorted(found["interchange_accuracy"].items()))
    effects = f"effect of the rest {found['effect_of_rest']:.3f}, of the source words"
    numbers = f"accuracy {found['accuracy']:.3f}; interchange accuracy {rates}; {effects}"
    short = [f"the gate is missed: {line}" for line in missed(found)]
    return [f"{numbers} {found['effect_of_source_words']:.3f}", *(short or ["the gate is passed"])]


def _share(which: Bool[Tensor, " n"]) -> float:
    return round(which.double().mean().item(), 4)


def _padded(ids: list[int], width: int, fill: int) -> list[int]:
    return ids + [fill] * (width - len(ids))
