# SPDX-License-Identifier: Apache-2.0
"""Extra `fid`: torch-fidelity is found, and its features import beside this torch."""

from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS
from transformers import AutoModel


assert FeatureExtractorInceptionV3 and SampleSimilarityLPIPS and AutoModel
print("Inception and LPIPS import; their weights are a download")
