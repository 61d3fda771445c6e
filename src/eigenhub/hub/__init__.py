# SPDX-License-Identifier: Apache-2.0
"""What goes to the Hub around the weights: resources, results files, model cards."""
