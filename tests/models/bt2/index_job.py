# SPDX-License-Identifier: Apache-2.0
"""A backfill job for a process of its own, to be killed: `index_job.py FOLDER BACKEND SIZE BATCH`."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


# The package itself imports torch and transformers, seconds for a process that is killed after one. An index needs neither.
bare = ModuleType("eigenhub.models.bt2")
bare.__path__ = [str(Path(find_spec("eigenhub.models").origin).parent / "bt2")]
sys.modules[bare.__name__] = bare

from eigenhub.models.bt2.index import CompatibleIndex  # noqa: E402
from eigenhub.models.bt2.index_stamp import STAMP_FILE  # noqa: E402
from tests.models.bt2.index_cases import NEW, Gallery  # noqa: E402


def main() -> None:
    folder, backend, size, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    gallery = Gallery(size)
    index = (
        CompatibleIndex.open(folder, identity=NEW)
        if (folder / STAMP_FILE).exists()
        else gallery.index(folder=folder, backend=backend)
    )
    index.backfill(index.plan("ids"), gallery.encode, batch_size=batch)
    index.set_old_scale(1.1)
    index.compact()
    index.close()
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
