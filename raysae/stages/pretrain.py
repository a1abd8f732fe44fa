"""Text -> a small language model: the recipes behind `raysae/models/bundled/`, and the code that makes them again.

Reads a recipe and, for GSM8K, the corpus; writes a Hugging Face folder (`config.json`, `model.safetensors`,
`tokenizer.json`, `tokenizer_config.json`) and `pretrain.json`, which says what it was made of, the loss on held-out
text and what the recipe's check found; for a recipe with a circuit also `circuit.safetensors`, where that lies. Runs on
one thread of one CPU, without Ray: the same seed, versions and kind of machine give the same bytes.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from raysae.errors import BadInput
from raysae.stages import ceiling, interchange_training
from raysae.stages.answered import answered
from raysae.stages.interchange_training import InterchangeTraining
from raysae.stages.recipes import RECIPES, Recipe
from raysae.store.writable import check_writable
from raysae.types import Split
from raysae.types.experiment import stream_seed

IGNORED = -100
"""Target id of padding."""
REPORT_STEPS = 25
"""Steps between two reports; the loss reported is the mean over them."""
HELD_OUT_DOCUMENTS = 500
"""Of a generated corpus; of GSM8K all test rows."""
_POOL_BATCHES = 32


def pretrain(
    name: str,
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    *,
    corpus_path: Path | None = None,
    report: Callable[[int, float], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train the bundled model `name` from `seed` and write the folder `out`, which must be new or empty.

    `steps` cuts the recipe short; `corpus_path` is where GSM8K lies (default: the hub); `report` is called with
    (step, training loss in nats per token), `say` with what a check of the model found. Returns `out`. BadInput for an
    unknown name, an occupied folder, a missing corpus.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise BadInput(
            f"no recipe for {name!r}", f"allowed: {', '.join(RECIPES)}", f"type raysae pretrain {next(iter(RECIPES))}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is not empty", "allowed: a new or empty folder", "name another one or remove this one")
    check_writable(out.absolute().parent, str(out), "name another folder")
    if steps is not None and steps < 1:
        raise BadInput(f"steps={steps}", "allowed: 1 or more", f"leave it out for the recipe's {recipe.steps}")
    steps = recipe.steps if steps is None else steps
    texts = recipe.texts(Split.TRAIN, steps * recipe.batch_documents, seed, corpus_path)
    held_out = recipe.texts(Split.TEST, HELD_OUT_DOCUMENTS, seed, corpus_path)
    tokenizer = recipe.tokenizer(texts, recipe.vocab_size)
    circuit = None
    if recipe.circuit is not None:
        drawn = stream_seed(seed, f"pretrain.{name}.circuit")
        circuit = InterchangeTraining(recipe.circuit, tokenizer, recipe.eos_token, recipe.d_model, drawn)
    with _one_thread():
        model = build(recipe, tokenizer, stream_seed(seed, f"pretrain.{name}.init"))
        documents = encode(recipe, tokenizer, texts)
        order = batches(documents, recipe.batch_documents, stream_seed(seed, f"pretrain.{name}.order"))
        if circuit is None:
            losses = (_loss(model, [documents[i] for i in rows])[0] for rows in order)
        else:
            programs = [circuit.read(text) for text in texts]
            losses = (circuit.loss(model, circuit.draw([programs[i] for i in rows])) for rows in order)
        final_loss = fit(model, recipe, losses, steps, report)
        loss, tokens = held_out_loss(model, encode(recipe, tokenizer, held_out))
        check, fast = recipe.check, _fast(tokenizer, recipe)
        found = check and check.measure(model, fast, stream_seed(seed, f"pretrain.{name}.check"))
        measured = None if circuit is None else circuit.measure(model, [circuit.read(text) for text in held_out])
        asks = recipe.asks if steps == recipe.steps else None
        answers = None if asks is None else answered(model, tokenizer, held_out, asks)
    made_of = {
        "name": name,
        "corpus": recipe.corpus,
        "seed": seed,
        "steps": steps,
        "documents_per_step": recipe.batch_documents,
        "lr": recipe.lr,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_loss_nats": round(final_loss, 4),
        "held_out_loss_nats": round(loss, 4),
        "held_out_tokens": tokens,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }
    if found:
        made_of |= {"check": found, "missed": ceiling.missed(found)}
        for line in ceiling.told(found):
            say(line)
    if measured is not None:
        made_of |= {"circuit": measured, "missed": interchange_training.missed(measured)}
        for line in interchange_training.told(measured):
            say(line)
    if answers is not None:
        made_of["answers"] = round(answers, 3)
    _write(out, model, fast, made_of, circuit)
    return out


def build(recipe: Recipe, tokenizer: tokenizers.Tokenizer, seed: int) -> transformers.GPT2LMHeadModel:
    """The recipe's architecture with fresh weights from `seed`."""
    eos, pad = tokenizer.token_to_id(recipe.eos_token), tokenizer.token_to_id(recipe.pad_token)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=recipe.ctx_len,
        n_embd=recipe.d_model,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=recipe.d_mlp,
        initializer_range=recipe.initializer_range,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config)


def encode(recipe: Recipe, tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text and its end-of-text token, cut at the context length."""
    eos = tokenizer.token_to_id(recipe.eos_token)
    return [[*encoding.ids, eos][: recipe.ctx_len] for encoding in tokenizer.encode_batch(list(texts))]


def fit(
    model: transformers.GPT2LMHeadModel,
    recipe: Recipe,
    losses: Iterator[Tensor],
    steps: int,
    report: Callable[[int, float], None] | None = None,
) -> float:
    """Training in place on losses that are computed as they are asked for; returns the mean of the last reported."""
    optimizers = _optimizers(model, recipe)
    warmup = max(1, steps // 20)

    def share(step: int) -> float:
        """Of the peak learning rate."""
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup))))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    model.train()
    seen: list[Tensor] = []
    loss_now = math.nan
    for step, loss in enumerate(islice(losses, steps), start=1):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        seen.append(loss.detach())
        if step % REPORT_STEPS == 0 or step == steps:
            loss_now = torch.stack(seen).mean().item()
            seen.clear()
            if report is not None:
                report(step, loss_now)
    return loss_now


def _optimizers(model: transformers.GPT2LMHeadModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    decay = recipe.weight_decay
    if recipe.matrices_lr is None:
        return [torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=decay)]
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrices_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.lr, weight_decay=decay),
    ]


@torch.no_grad()
def held_out_loss(model: transformers.GPT2LMHeadModel, documents: Sequence[list[int]]) -> tuple[float, int]:
    """(nats per predicted token, tokens predicted) over whole documents."""
    model.eval()
    total, tokens = 0.0, 0
    ordered = sorted(documents, key=len)
    for start in range(0, len(ordered), 32):
        loss, count = _loss(model, ordered[start : start + 32])
        total += loss.item() * count
        tokens += count
    return total / tokens, tokens


def _loss(model: transformers.GPT2LMHeadModel, batch: Sequence[list[int]]) -> tuple[Tensor, int]:
    width = max(map(len, batch))
    fill = model.config.eos_token_id
    ids = torch.tensor([document + [fill] * (width - len(document)) for document in batch])
    targets = torch.tensor([document + [IGNORED] * (width - len(document)) for document in batch])[:, 1:]
    # Padding stands at the end, where causal attention cannot see it from a real token: no mask is needed.
    logits = model(ids[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED), int(
        (targets != IGNORED).sum()
    )


def batches(documents: Sequence[list[int]], size: int, seed: int) -> Iterator[list[int]]:
    """Which documents make a step: epoch after epoch in a new order; neighbours in length share a batch, so that little
    of it is padding."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(documents))
    while True:
        order = torch.randperm(len(documents), generator=generator).tolist()
        for start in range(0, len(order), size * _POOL_BATCHES):
            pool = sorted(order[start : start + size * _POOL_BATCHES], key=lambda i: len(documents[i]))
            starts = range(0, len(pool) - size + 1, size)
            for which in torch.randperm(len(starts), generator=generator).tolist():
                yield pool[starts[which] : starts[which] + size]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order whatever the machine's cores: part of what makes the bytes repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fast(tokenizer: tokenizers.Tokenizer, recipe: Recipe) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=recipe.eos_token,
        eos_token=recipe.eos_token,
        pad_token=recipe.pad_token,
        unk_token=recipe.unk_token,
        clean_up_tokenization_spaces=False,
        model_max_length=recipe.ctx_len,
    )


def _write(
    out: Path,
    model: transformers.GPT2LMHeadModel,
    tokenizer: transformers.PreTrainedTokenizerFast,
    made_of: dict[str, object],
    circuit: InterchangeTraining | None,
) -> None:
    staging = out.with_name(f".{out.name}.partial-{os.getpid()}")
    tokenizer.save_pretrained(staging)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(staging)
    # The output matrix is the embedding matrix (tied): it is stored once.
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    (staging / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
    (staging / "pretrain.json").write_text(json.dumps(made_of, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if circuit is not None:
        circuit.known.write(staging)
    if out.exists():
        out.rmdir()
    staging.rename(out)
