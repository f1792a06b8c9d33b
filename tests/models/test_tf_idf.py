"""TF-IDF on token ids against scikit-learn's TfidfVectorizer and what is fitted on it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import Tensor

from src.experiment import DataSpec, InputError, Terms
from src.models import TfIdf

TOKENS, LONGEST = 40, 12
SPEC = DataSpec(vocab_size=TOKENS, pad_id=0, unknown_id=1, input_shape=(LONGEST,))


def texts(count: int, seed: int) -> list[list[int]]:
    """Return token ids; some are unknown, many are there twice, and the first text has a single one."""
    rng = np.random.default_rng(seed)
    found = [rng.zipf(1.5, rng.integers(1, LONGEST + 1)).clip(max=TOKENS - 2) + 1 for _ in range(count)]
    return [[5], *(ids.tolist() for ids in found[1:])]


def batch(ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, ids))
    tokens = torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids])
    return tokens, torch.tensor([[True] * len(one) + [False] * (longest - len(one)) for one in ids])


def terms_of(ids: list[int]) -> list[str]:
    words = [str(one) for one in ids if one != 1]
    return words + [f"{one} {two}" for one, two in pairwise(ids) if 1 not in (one, two)]


def fitted(ids: list[list[int]], target: Tensor, outputs: int, weights: Tensor | None = None) -> TfIdf:
    network = TfIdf(SPEC, outputs, Terms())
    line = network.head.fit(network.features(*batch(ids)), target, weights)
    assert line.startswith(f"{len(vectorizer().fit(ids).vocabulary_)} terms of {len(ids)} texts, ")
    return network.eval()


def vectorizer() -> Any:
    analyzer: Any = terms_of
    return TfidfVectorizer(analyzer=analyzer, min_df=2, sublinear_tf=True)


@torch.no_grad()
def restored(network: TfIdf, ids: list[list[int]], outputs: int) -> np.ndarray:
    """Return the outputs of another network with the state of this one, text by text and all at once."""
    other = TfIdf(SPEC, outputs, Terms())
    other.load_state_dict(network.state_dict())
    found = other.eval()(*batch(ids))
    torch.testing.assert_close(found, torch.cat([network(*batch([one])) for one in ids]))
    torch.testing.assert_close(found, network.head(network.features(*batch(ids))))
    return found.double().numpy()


@pytest.mark.parametrize("there", [(0, 2), (0, 1, 3)], ids=["two", "many"])
def test_classes_are_scikit_learns_and_one_that_training_had_not_is_unlikely(there: tuple[int, ...]) -> None:
    train, new = texts(300, 0), texts(100, 1)
    target = torch.tensor(there)[torch.tensor([sum(ids) % len(there) for ids in train])]
    words = vectorizer().fit(train)
    weights = torch.tensor([3.0, 0.5, 1.0, 2.0])
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(words.transform(train), target.numpy(), sample_weight=weights[target].numpy())
    found = restored(fitted(train, target, 4, weights), new, 4)
    raw = found[:, there] if len(there) > 2 else found[:, 2] - found[:, 0]
    np.testing.assert_allclose(raw, model.decision_function(words.transform(new)), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(
        torch.from_numpy(found).softmax(1).numpy()[:, there], model.predict_proba(words.transform(new)), atol=0.01
    )


def test_numbers_and_labels_are_scikit_learns() -> None:
    train, new = texts(300, 0), texts(100, 1)
    score = torch.tensor([float(np.mean(ids)) for ids in train])
    words = vectorizer().fit(train)
    model = RidgeCV(np.logspace(-2, 4, 13), cv=5).fit(words.transform(train), score.numpy())
    found = restored(fitted(train, score, 1), new, 1)
    np.testing.assert_allclose(found[:, 0], model.predict(words.transform(new)), rtol=1e-3, atol=1e-3)
    target = torch.stack([score > 4, score > 9, score > -1], 1).float()
    found = restored(fitted(train, target, 3), new, 3)
    for label in range(2):
        logistic = LogisticRegression(C=10, max_iter=1000).fit(words.transform(train), target[:, label].numpy())
        np.testing.assert_allclose(
            found[:, label], logistic.decision_function(words.transform(new)), rtol=1e-2, atol=1e-2
        )
    np.testing.assert_allclose(found[:, 2], np.log(599), rtol=1e-5)


def test_words_alone_may_count_and_a_text_without_known_ones_has_the_bias() -> None:
    train = texts(100, 0)
    target = torch.tensor([ids[0] % 2 for ids in train])
    network = TfIdf(SPEC, 2, Terms(pairs=False))
    network.head.fit(network.features(*batch(train)), target)
    assert not network.head.pairs.numel()
    swapped = [ids[::-1] for ids in train]
    torch.testing.assert_close(network(*batch(train)), network(*batch(swapped)))
    both = fitted(train, target, 2)
    assert not torch.allclose(both(*batch(train)), both(*batch(swapped))), "the order of words tells pairs apart"
    assert both.head.pairs.diff().gt(0).all()
    torch.testing.assert_close(both(*batch([[1, 1, 1]]))[0], both.head.bias.detach())
    both(*batch(train)).sum().backward()
    assert both.head.weight.grad is not None
    assert both.head.weight.grad.any()
    with pytest.raises(InputError, match=r"--terms\.least 50: no word is in so many"):
        TfIdf(SPEC, 2, Terms(least=50)).head.fit(network.features(*batch([[3, 4], [5]])), target[:2])
