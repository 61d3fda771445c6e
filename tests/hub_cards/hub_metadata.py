# SPDX-License-Identifier: Apache-2.0
"""What the Hub knows: names of tasks and licences, and the datasets that our results files may name."""

#: Tasks of the Hub, which are both `pipeline_tag` and `task_categories`.
TASKS = frozenset(
    """any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
    document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
    image-segmentation image-text-to-text image-to-3d image-to-image image-to-text image-to-video keypoint-detection
    mask-generation multiple-choice object-detection question-answering reinforcement-learning robotics sentence-similarity
    summarization table-question-answering tabular-classification tabular-regression text-classification text-generation
    text-ranking text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video time-series-forecasting
    token-classification translation unconditional-image-generation video-classification video-text-to-text
    visual-document-retrieval visual-question-answering voice-activity-detection zero-shot-classification
    zero-shot-image-classification zero-shot-object-detection""".split()
)
#: Those that we may choose from; `other` goes with a name and a link on a dataset.
LICENSES = frozenset("apache-2.0 mit bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 other unknown".split())
#: Libraries whose loading code the Hub shows, and our own.
LIBRARIES = frozenset("eigenhub peft transformers".split())
#: Datasets of others on the Hub.
PUBLIC = frozenset(
    """HuggingFaceTB/smollm-corpus ILSVRC/imagenet-1k allenai/c4 cais/mmlu google/speech_commands hendrycks/competition_math
    nyu-mll/glue openai/gsm8k stanfordnlp/snli stanfordnlp/sst2 uoft-cs/cifar100""".split()
)
#: Benchmarks of publications that are no dataset of the Hub under the name that the publication uses.
ELSEWHERE = {
    "google-research/long-range-arena": "https://github.com/google-research/long-range-arena",
    "MIND-HELM": "https://github.com/oneal2000/MIND",
    "ffhq": "https://github.com/NVlabs/ffhq-dataset",
}
