# SPDX-License-Identifier: Apache-2.0
"""One door to everything that computes, opened by the first event, long after the page.

Events run in threads. Threads that import the same modules in different orders wait for each other's locks until Python
hands out half-initialised ones; with a single first module there is a single order.
"""

from converting import convert, malicious_file
from editing import along, samples, shift_of, unedited
from finding import bases_of, find
from generators import default_other, generator, unprojected
from labels import fitting, load_names, read_archive, suggested, taken, write_archive
from pictures import LARGE_SIDE, film_side, gif_file, grid, mp4_file, png_file, rows_around, signed, to_image
from places import reach_of
from records import complete, directions_record, file_name, load_images, steps_along, traversal
from reports import direction_title, effect_table, factor_table, layer_choices, model_tiles, names_table


__all__ = [
    "LARGE_SIDE",
    "along",
    "bases_of",
    "complete",
    "convert",
    "default_other",
    "direction_title",
    "directions_record",
    "effect_table",
    "factor_table",
    "file_name",
    "film_side",
    "find",
    "fitting",
    "generator",
    "gif_file",
    "grid",
    "layer_choices",
    "load_images",
    "load_names",
    "malicious_file",
    "model_tiles",
    "mp4_file",
    "names_table",
    "png_file",
    "reach_of",
    "read_archive",
    "rows_around",
    "samples",
    "shift_of",
    "signed",
    "steps_along",
    "suggested",
    "taken",
    "to_image",
    "traversal",
    "unedited",
    "unprojected",
    "write_archive",
]
