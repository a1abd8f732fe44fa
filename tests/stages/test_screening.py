"""A latent's own tokens, put into texts without a thought: where they are put, and who fires there."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raysae.stages.exhibits import reading, screening
from raysae.types import HookPoint

POINT = HookPoint(layer=0, site="resid_post")
EOS, OWN, OTHER = 0, 5, 6
DOCUMENTS, LENGTH = 40, 12


@pytest.fixture
def exam(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Activations are token ids. Latents: on at OWN; anywhere but there; at OWN in the text as it was; never."""
    rng = np.random.default_rng(0)
    token_id = rng.integers(7, 50, (DOCUMENTS, LENGTH))
    token_id[:, 3], token_id[:, -1] = OWN, EOS
    document = torch.arange(DOCUMENTS).repeat_interleave(LENGTH)
    own = torch.from_numpy((token_id == OWN).ravel()).float()

    def read(
        model: None, ids: torch.Tensor, mask: torch.Tensor, points: tuple[HookPoint, ...]
    ) -> dict[Any, torch.Tensor]:
        assert ids.shape == mask.shape
        return {POINT: ids[..., None].float()}

    def fires(sae: None, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x == OWN, x != OWN, torch.zeros_like(x)], dim=1).float()

    monkeypatch.setattr(reading, "capture", read)
    monkeypatch.setattr(screening, "encode", fires)
    return SimpleNamespace(
        fit=SimpleNamespace(token_id=token_id.ravel(), document=document),
        fit_latents=torch.stack([own, own, own, torch.zeros_like(own)], dim=1),
        court=SimpleNamespace(seed=lambda use: 1, tokenizer=SimpleNamespace(all_special_ids=[EOS])),
        experiment=SimpleNamespace(capture=SimpleNamespace(dtype="float32", batch_tokens=100)),
        seed=lambda use: 2,
        hookpoint=POINT,
        model=None,
        sae=None,
    )


def test_what_is_put_in_is_the_latents_own_and_only_there_it_counts(exam: Any) -> None:
    assert screening._injected(exam, np.array([0, 1, 2, 3])).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_shuffled_texts_keep_their_words_and_the_places_of_special_tokens(exam: Any) -> None:
    before = exam.fit.token_id.reshape(DOCUMENTS, LENGTH).copy()
    texts = screening._shuffled(exam)
    assert len(texts) == screening.TEXTS
    assert (exam.fit.token_id.reshape(DOCUMENTS, LENGTH) == before).all(), "the sample is not touched"
    for text, old in zip(texts, before, strict=False):
        assert sorted(text) == sorted(old) and text[-1] == EOS and (text != old).any()
