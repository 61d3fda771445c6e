# SPDX-License-Identifier: Apache-2.0
"""One process of `tests.support.distributed.run_function`: source file, function, result folder, keywords as JSON."""

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch.distributed as dist


source, name, folder, keywords = sys.argv[1:]
spec = spec_from_file_location("distributed_target", source)
module = module_from_spec(spec)
# dataclasses, pickle and inspect look a class up through its module
sys.modules["distributed_target"] = module
spec.loader.exec_module(module)

dist.init_process_group("gloo")
try:
    result = getattr(module, name)(**json.loads(keywords))
    (Path(folder) / f"{dist.get_rank()}.json").write_text(json.dumps(result))
finally:
    dist.destroy_process_group()
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)  # the end of the interpreter aborts where a thread of gloo outlives it
