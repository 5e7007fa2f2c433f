# SPDX-License-Identifier: MIT
"""Training runs that show what the models learn, beside their peers: `python -m bench.accuracy`."""
