# SPDX-License-Identifier: Apache-2.0
"""Small shared parts of the training scripts: arguments, checkpoints, metrics, text data, GSM8K.

Nothing is imported here: a script reads its arguments before it pays for torch. Import from the modules:

- [`eigenhub.training.arguments`]: argparse with a YAML file behind it,
- [`eigenhub.training.options`]: the options that scripts have in common, and their checks,
- [`eigenhub.training.setup`]: accelerator and data loader,
- [`eigenhub.training.launcher`]: which engine the launcher has asked for,
- [`eigenhub.training.engines`]: an accelerator that hands whole models to FSDP2 and DeepSpeed,
- [`eigenhub.training.checkpoint`]: atomic, rotating checkpoints over `accelerator.save_state`,
- [`eigenhub.training.checkpoint_files`]: which checkpoint folders are complete,
- [`eigenhub.training.accumulation`]: gradient accumulation normalised by the items of the whole step,
- [`eigenhub.training.metrics_log`]: one JSON object per line and step,
- [`eigenhub.training.text_source`]: text and prompt/response data from the Hub or local files,
- [`eigenhub.training.corpus`]: text to learn from and text held out,
- [`eigenhub.training.tokenization`]: prompt masking and packing,
- [`eigenhub.training.packing`]: documents in a row, cut into blocks,
- [`eigenhub.training.token_stream`]: batches from a streamed data set, with a position that resumes exactly,
- [`eigenhub.training.held_out`]: loss of a language model on held-out text,
- [`eigenhub.training.language_data`]: such text as batches, with a part held out,
- [`eigenhub.training.language_run`]: the run of a language-model script, from preparation to saving,
- [`eigenhub.training.schedule`]: learning-rate schedules with a floor,
- [`eigenhub.training.gsm8k`]: final answers and exact-match evaluation,
- [`eigenhub.training.accuracy`]: accuracy of a classifier,
- [`eigenhub.training.results_file`]: that accuracy as a file for the model card,
- [`eigenhub.training.demo_checks`]: what a demo proves at its end,
- [`eigenhub.training.send`]: Sensitivity Dropout, its controls, and the state that survives a resume,
- [`eigenhub.training.subspace_stats`]: what a low-rank optimizer keeps of each gradient, as a Trainer callback,
- [`eigenhub.training.publish`]: pushing a finished run to the Hub.
"""
