# SPDX-License-Identifier: Apache-2.0

collect_ignore = ["new_method"]  # files of a method that is added to a copy of the tree only
