# SPDX-License-Identifier: Apache-2.0
"""transformers' own pipelines and processors serve these models: none of ours is needed."""

import numpy as np
import torch
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor, pipeline
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from eigenhub.models.s5_ptd import S5Config, S5ForAudioClassification, S5ForCausalLM, S5ForImageClassification
from tests.support.models import VOCABULARY, build, tiny_tokenizer


TINY = {"hidden_size": 8, "state_size": 8, "num_blocks": 1, "num_hidden_layers": 1}


def test_audio_classification():
    model = build(S5ForAudioClassification, S5Config(**TINY, input_size=1, num_labels=3))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    samples = np.sin(np.arange(800) / 7).astype(np.float32)
    answers = pipeline("audio-classification", model=model, feature_extractor=extractor)(samples)
    normal = torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
    expected = model(normal).logits.softmax(-1)[0]
    for answer in answers:
        assert abs(answer["score"] - expected[model.config.label2id[answer["label"]]].item()) < 1e-5


def test_image_classification():
    model = build(S5ForImageClassification, S5Config(**TINY, input_size=3, num_labels=3))
    processor = ViTImageProcessorPil(size={"height": 4, "width": 6})
    image = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3)
    answers = pipeline("image-classification", model=model, image_processor=processor)(image)
    expected = model(processor(image, return_tensors="pt").pixel_values).logits.softmax(-1)[0]
    for answer in answers:
        assert abs(answer["score"] - expected[model.config.label2id[answer["label"]]].item()) < 1e-5


def test_text_generation():
    tokenizer = tiny_tokenizer()
    model = build(S5ForCausalLM, S5Config(**TINY, vocab_size=VOCABULARY, pad_token_id=tokenizer.pad_token_id))
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    texts = write(["the cat", "ten red hens sat"], batch_size=2, max_new_tokens=4, do_sample=False)
    for (answer,), prompt in zip(texts, ("the cat", "ten red hens sat"), strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        expected = model.generate(ids, max_new_tokens=4, do_sample=False)
        text = tokenizer.decode(expected[0], skip_special_tokens=True)
        assert answer["generated_text"].replace(" ", "") == text.replace(" ", "")  # the seam is decoded by itself
