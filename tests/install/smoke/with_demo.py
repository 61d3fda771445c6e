# SPDX-License-Identifier: Apache-2.0
"""Extra `demo`: a method's demo on embedded data, with as few steps as it takes."""

import subprocess
import sys
from pathlib import Path

from eigenhub.embedded.digits import load_digits
from eigenhub.embedded.glyphs import draw_glyphs


assert load_digits()["train"].num_rows and len(draw_glyphs()["train"].labels)
command = [Path(sys.executable).parent / "eigenhub", "demo", "dct", "--steps", "10", "--output_dir", "demo"]
done = subprocess.run(command, capture_output=True, text=True)
written = {path.suffix for path in Path("demo").rglob("*") if path.is_file()}
assert ".png" in written, f"exit code {done.returncode}, wrote {written}\n{done.stdout}\n{done.stderr}"
print("embedded digits and glyphs; eigenhub demo dct, 10 steps")
