"""What the small models are made of, the bundled ones among them: text, tokenizer, size and schedule of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from raysae import corpora
from raysae.errors import BadInput
from raysae.stages.ceiling import Ceiling
from raysae.stages.interchange_training import Circuit
from raysae.types import CorpusRecord, HookPoint, Split
from raysae.types.experiment import stream_seed
from raysae.types.text import CorpusConfig
from raysae.worlds import arithmetic_cot, bfs_step, controlled_cot, dyck

SEARCHES = 20_000
"""Texts of tiny-bfs: exchanged with each other they are never used up."""


@dataclass(frozen=True)
class Recipe:
    """One bundled model: its text, its tokenizer and its size. Architecture: GPT-2 with tied embeddings, no dropout."""

    corpus: str
    layers: int
    d_model: int
    heads: int
    ctx_len: int
    steps: int
    batch_documents: int
    """Documents per step; each is one row, cut at `ctx_len`."""
    lr: float
    """Peak learning rate; warm-up over 5 % of the steps, then cosine decay to 0."""
    texts: Callable[[Split, int, int, Path | None], list[str]]
    """(split, documents wanted at most, seed, corpus path) -> texts; TRAIN is fitted, TEST only measured."""
    tokenizer: Callable[[Sequence[str], int], tokenizers.Tokenizer]
    """(training texts, vocabulary size) -> tokenizer whose decoding gives the text back."""
    vocab_size: int
    eos_token: str = "<eos>"
    pad_token: str = "<pad>"
    unk_token: str | None = "<unk>"
    weight_decay: float = 0.01
    check: Ceiling | None = None
    """What must be so of the model before an SAE is worth a look."""
    matrices_lr: float | None = None
    """Peak learning rate of the matrices between embedding and unembedding under Muon, in AdamW's units (its updates
    are given the root mean square of AdamW's, Liu et al. 2025, arXiv:2502.16982); None trains them by AdamW too."""
    asks: str | None = None
    """The word that ends the question of a text whose last word is its answer: what share of held-out questions the
    model answers is measured too, once it has had all its steps."""
    d_mlp: int | None = None
    """Null: four times `d_model`."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights."""
    circuit: Circuit | None = None
    """Where variables are made to live, beside the prediction of words."""


def _arithmetic_texts(split: Split, documents: int, seed: int, path: Path | None) -> list[str]:
    stream = stream_seed(seed, f"pretrain.tiny-cot.{split.value}")
    return [record.text for record in arithmetic_cot.generate(documents, stream)]


def _controlled_texts(split: Split, documents: int, seed: int, path: Path | None) -> list[str]:
    return list(controlled_cot.mixed(documents, stream_seed(seed, f"pretrain.tiny-controlled.{split.value}")))


def _dyck_texts(split: Split, documents: int, seed: int, path: Path | None) -> list[str]:
    return list(dyck.WORLD.lessons(documents, stream_seed(seed, f"pretrain.tiny-dyck.{split.value}")))


def _search_texts(split: Split, documents: int, seed: int, path: Path | None) -> list[str]:
    stream = stream_seed(seed, f"pretrain.tiny-bfs.{split.value}")
    return [record.text for record in bfs_step.generate(min(documents, SEARCHES), stream)]


def _word_level(tokenizer_json: Callable[[], str]) -> Callable[[Sequence[str], int], tokenizers.Tokenizer]:
    """A world's own, whatever the texts."""
    return lambda texts, vocab_size: tokenizers.Tokenizer.from_str(tokenizer_json())


def _gsm8k_texts(split: Split, documents: int, seed: int, path: Path | None) -> list[str]:
    config = CorpusConfig.model_validate({"name": "gsm8k", "path": path})
    corpus = corpora.CORPORA["gsm8k"]
    try:
        sources = corpus.sources(config)
    except BadInput as error:
        cure = "type --corpus-path <folder with train.jsonl and test.jsonl>"
        raise BadInput(error.arrived, error.allowed, cure) from error
    rows = (row for source in sources if source.native_split == split for row in corpus.read(source, config))
    texts = [row.text for row in rows if isinstance(row, CorpusRecord)]
    if not texts:
        raise BadInput(
            f"{path} holds no GSM8K {split.value} rows",
            "allowed: a folder with train.jsonl and test.jsonl",
            "correct the path",
        )
    return texts


def _byte_level_bpe(texts: Sequence[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE: every text can be written in it, and decoding gives it back exactly."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


RECIPES: dict[str, Recipe] = {
    "tiny-cot": Recipe(
        corpus=arithmetic_cot.NAME,
        layers=2,
        d_model=64,
        heads=4,
        ctx_len=64,
        steps=1000,
        batch_documents=64,
        lr=3e-3,
        texts=_arithmetic_texts,
        tokenizer=_word_level(arithmetic_cot.tokenizer_json),
        vocab_size=len(arithmetic_cot.VOCABULARY),
    ),
    "tiny-controlled": Recipe(
        corpus=controlled_cot.NAME,
        layers=4,
        d_model=128,
        heads=4,
        ctx_len=144,
        steps=15000,
        batch_documents=24,
        lr=3e-3,
        texts=_controlled_texts,
        tokenizer=_word_level(controlled_cot.tokenizer_json),
        vocab_size=len(controlled_cot.VOCABULARY),
        matrices_lr=1e-2,
        asks="?",
    ),
    "tiny-dyck": Recipe(
        corpus=dyck.NAME,
        layers=2,
        d_model=64,
        heads=4,
        ctx_len=56,
        steps=3000,
        batch_documents=64,
        lr=3e-3,
        texts=_dyck_texts,
        tokenizer=_word_level(dyck.tokenizer_json),
        vocab_size=len(dyck.VOCABULARY),
        check=Ceiling(dyck.WORLD, HookPoint(layer=1, site="resid_post")),
    ),
    "tiny-bfs": Recipe(
        corpus=bfs_step.NAME,
        layers=2,
        d_model=64,
        heads=8,
        ctx_len=48,
        steps=6000,
        batch_documents=96,
        lr=5e-3,
        texts=_search_texts,
        tokenizer=_word_level(bfs_step.tokenizer_json),
        vocab_size=len(bfs_step.VOCABULARY),
        d_mlp=128,
        initializer_range=0.1,
        circuit=Circuit(
            read=bfs_step.Moment.read,
            hookpoint=HookPoint(layer=0, site="resid_post"),
            dimensions={name: len(values) for name, values in bfs_step.VARIABLES.items()},
            sources=bfs_step.SOURCES,
        ),
    ),
    "tiny-gsm8k": Recipe(
        corpus="gsm8k",
        layers=4,
        d_model=128,
        heads=4,
        ctx_len=512,
        steps=3600,
        batch_documents=8,
        lr=2e-3,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        unk_token=None,
        texts=_gsm8k_texts,
        tokenizer=_byte_level_bpe,
        vocab_size=4096,
    ),
}
