# SPDX-License-Identifier: Apache-2.0
"""The tiny models and their tokenizer fit together and are the same everywhere."""

import hashlib

import pytest
import torch

from tests.support.data import TEXTS, counting_rows
from tests.support.models import VOCABULARY, tiny_bert, tiny_gpt2, tiny_llama, tiny_tokenizer, tiny_vit
from tests.support.processes import run_python


BUILDERS = [tiny_llama, tiny_gpt2, tiny_bert, tiny_vit]


def digest(model: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()


@pytest.mark.parametrize("build", BUILDERS)
def test_a_model_is_small_seeded_and_leaves_the_generator_alone(build):
    state = torch.get_rng_state()
    model = build()
    assert torch.equal(torch.get_rng_state(), state)
    assert digest(model) == digest(build()) != digest(build(seed=1))
    assert model.num_parameters() < 10_000 and not model.training


def test_weights_are_those_of_another_process(tmp_path):
    code = "from tests.support.models import tiny_llama\nfrom tests.support.test_models import digest\n"
    finished = run_python(f"{code}print(digest(tiny_llama()))", folder=tmp_path)
    assert finished.stdout.split()[-1] == digest(tiny_llama())


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2, tiny_bert])
def test_the_tokenizer_fits_the_text_models(build):
    batch = tiny_tokenizer()(list(TEXTS), padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    assert len(tiny_tokenizer()) <= VOCABULARY
    assert build()(**batch).logits.isfinite().all()
    assert tiny_tokenizer().decode(batch["input_ids"][0], skip_special_tokens=True) == TEXTS[0]


def test_the_image_model_takes_digits():
    assert tiny_vit()(torch.rand(2, 1, 8, 8)).logits.shape == (2, 10)


def test_rows_count_upwards_and_spare_the_special_tokens():
    rows = torch.tensor(counting_rows(8))
    assert rows.min() >= 4 and rows.max() < VOCABULARY and rows.tolist() == counting_rows(8)
    assert (((rows[:, 1:] - rows[:, :-1]) % 60) == 1).all()
