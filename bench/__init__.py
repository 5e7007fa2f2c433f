# SPDX-License-Identifier: MIT
"""Benchmarks of every operator beside the peers a user would pick instead: `python -m bench`."""
