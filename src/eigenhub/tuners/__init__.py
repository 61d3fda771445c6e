# SPDX-License-Identifier: Apache-2.0
"""PEFT tuners. Each sub-package registers its method with PEFT when it is imported."""
