# SPDX-License-Identifier: Apache-2.0
"""Files: errors that name them when they are read, whole or not at all when they are written."""

from eigenhub.files.locking import lock_folder
from eigenhub.files.reading import (
    check_entries,
    field_kinds,
    naming,
    open_tensors,
    read_json,
    read_tensors,
    read_text,
    read_yaml,
)
from eigenhub.files.writing import append_line, replace_folder, replacing, write_tensors, write_text


__all__ = [
    "append_line",
    "check_entries",
    "field_kinds",
    "lock_folder",
    "naming",
    "open_tensors",
    "read_json",
    "read_tensors",
    "read_text",
    "read_yaml",
    "replace_folder",
    "replacing",
    "write_tensors",
    "write_text",
]
