"""The real sentence-transformers: its trainer with our losses, on a small model made here."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tolerances import LOSS
from torch import nn

from facenet_ext import TripletLoss, TripletSemiHardLoss
from facenet_ext.sentence_transformers import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
    BatchTripletLoss,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test asks nobody
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer import losses, modules
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

MakeLoss = Callable[[nn.Module], nn.Module]
LOSSES: dict[str, MakeLoss] = {
    "semi-hard": lambda model: BatchSemiHardTripletLoss(model, margin=1),
    "hard": lambda model: BatchHardTripletLoss(model, "cosine", margin=0.5),
    "all": lambda model: BatchAllTripletLoss(model, margin=1),
    "soft": BatchHardSoftMarginTripletLoss,
    "any": lambda model: BatchTripletLoss(model, TripletLoss(0.5, positives="easiest")),
    "default": BatchTripletLoss,
}
on_losses = pytest.mark.parametrize("name", LOSSES)

WORDS = [f"{subject}{i}" for subject in ("sea", "sky", "city", "wood") for i in range(6)]
# Eight sentences of two words of the same subject, for each of four subjects.
DATA = {
    "sentence": [
        f"{WORDS[6 * s + i % 6]} {WORDS[6 * s + i * i % 6]}" for s in range(4) for i in range(8)
    ],
    "label": [s for s in range(4) for _ in range(8)],
}


@pytest.fixture
def model() -> SentenceTransformer:
    """One vector of eight numbers per word."""
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    embedding = modules.StaticEmbedding(tokenizer, embedding_dim=8)
    return SentenceTransformer(modules=[embedding, modules.Normalize()], device="cpu")


def train(model: SentenceTransformer, loss: Any, folder: Path, **options: Any) -> Any:
    """Ten epochs of one batch with all the data; the trainer afterwards."""
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=10,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        batch_sampler=BatchSamplers.GROUP_BY_LABEL,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{"save_strategy": "no", "learning_rate": 0.05} | options,
    )
    data = Dataset.from_dict(DATA)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=data, loss=loss
    )
    trainer.train()
    return trainer


def history(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@on_losses
def test_it_trains(name: str, model: SentenceTransformer, tmp_path: Path) -> None:
    """The loss falls in ten steps, in evaluation too."""
    loss = LOSSES[name](model)
    trainer = train(model, loss, tmp_path)
    steps = history(trainer)
    assert len(steps) == 10
    assert steps[-1] < steps[0]
    assert trainer.evaluate()["eval_loss"] < steps[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BatchSemiHardTripletLoss, losses.BatchSemiHardTripletLoss),
        (BatchHardTripletLoss, losses.BatchHardTripletLoss),
        (BatchAllTripletLoss, losses.BatchAllTripletLoss),
        (BatchHardSoftMarginTripletLoss, losses.BatchHardSoftMarginTripletLoss),
    ],
)
def test_it_trains_to_what_theirs_trains_to(
    ours: MakeLoss, theirs: MakeLoss, model: SentenceTransformer, tmp_path: Path
) -> None:
    """Step by step the same loss. Plain gradient steps: Adam's would magnify the rounding."""
    twin = copy.deepcopy(model)
    steps = {"optim": "sgd", "learning_rate": 1.0}
    expected = history(train(twin, theirs(twin), tmp_path, **steps))
    actual = history(train(model, ours(model), tmp_path, **steps))
    assert actual[-1] < actual[0]
    assert actual == pytest.approx(expected, rel=10 * LOSS[torch.float32])


def test_a_class_in_place_of_a_loss(model: SentenceTransformer, tmp_path: Path) -> None:
    """The trainer makes the loss of the model."""
    trainer = train(model, BatchSemiHardTripletLoss, tmp_path)
    assert isinstance(trainer.loss, BatchSemiHardTripletLoss)
    assert trainer.loss.model is model


def test_saved_and_loaded(model: SentenceTransformer, tmp_path: Path) -> None:
    """The loss leaves no trace in the model; its card tells of it."""
    train(model, BatchSemiHardTripletLoss(model, margin=1), tmp_path)
    model.save(str(tmp_path / "model"))
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert (again.encode(DATA["sentence"]) == model.encode(DATA["sentence"])).all()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "facenet_ext.sentence_transformers.BatchSemiHardTripletLoss" in card
    assert '"distance_metric": "euclidean"' in card
    assert '"margin": 1.0' in card
    assert "FaceNet: A Unified Embedding" in card


def test_a_run_goes_on_from_its_checkpoint(model: SentenceTransformer, tmp_path: Path) -> None:
    loss = BatchSemiHardTripletLoss(model, margin=1)
    trainer = train(model, loss, tmp_path, save_strategy="steps", save_steps=5)
    whole = model.encode(DATA["sentence"])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert trainer.state.global_step == 10
    assert (model.encode(DATA["sentence"]) == whole).all()


def test_the_trainer_puts_a_wrapped_model_into_the_loss(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    """As it does with a model that runs on several devices, or is compiled."""
    trainer = train(model, BatchSemiHardTripletLoss(model), tmp_path)

    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, features: Any) -> Any:
            return self.module(features)

    wrapped = Wrapped(model)
    assert trainer.override_model_in_loss(trainer.loss, wrapped).model is wrapped


@on_losses
def test_inside_its_matryoshka_loss(name: str, model: SentenceTransformer, tmp_path: Path) -> None:
    """Which calls the loss on shortened embeddings of the model."""
    loss = losses.MatryoshkaLoss(model, LOSSES[name](model), matryoshka_dims=[8, 4])
    steps = history(train(model, loss, tmp_path))
    assert steps[-1] < steps[0]


def test_labels_in_a_column(model: SentenceTransformer) -> None:
    features, labels = [model.preprocess(DATA["sentence"])], torch.tensor(DATA["label"])
    loss = BatchSemiHardTripletLoss(model)
    assert torch.equal(loss(features, labels.unsqueeze(1)), loss(features, labels))
    with pytest.raises(ValueError, match="labels: expected one per row of embeddings, 32, got 31"):
        loss(features, labels[1:])


def test_another_loss_than_ours(model: SentenceTransformer) -> None:
    """Anything that takes embeddings and labels: here pytorch-metric-learning's."""
    theirs = pytest.importorskip("pytorch_metric_learning.losses").TripletMarginLoss()
    features, labels = [model.preprocess(DATA["sentence"])], torch.tensor(DATA["label"])
    embeddings = model(features[0])["sentence_embedding"]
    assert BatchTripletLoss(model, theirs)(features, labels) == theirs(embeddings, labels)


@on_losses
def test_pickle_and_deepcopy(name: str, model: SentenceTransformer) -> None:
    features, labels = [model.preprocess(DATA["sentence"])], torch.tensor(DATA["label"])
    loss = LOSSES[name](model)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin.get_config_dict() == loss.get_config_dict()
        assert torch.equal(twin(features, labels), loss(features, labels))


def test_what_the_card_says_of_any_loss(model: SentenceTransformer) -> None:
    loss = BatchTripletLoss(model, TripletSemiHardLoss(margin=0.3))
    assert loss.get_config_dict() == {"loss": repr(TripletSemiHardLoss(margin=0.3))}
    assert "schroff2015facenet" in loss.citation
    assert "hermans2017defense" in BatchHardTripletLoss(model).citation
    assert "hermans2017defense" in BatchHardSoftMarginTripletLoss(model).citation


def test_neither_the_package_nor_the_module_imports_sentence_transformers() -> None:
    code = (
        "import sys, facenet_ext, facenet_ext.sentence_transformers as module; "
        "assert module.BatchTripletLoss; "
        "assert not {'sentence_transformers', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
