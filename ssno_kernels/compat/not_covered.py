# SPDX-License-Identifier: MIT
"""How a stand-in says that it does not cover what was asked of it."""

from __future__ import annotations

from typing import NoReturn


class NotCoveredError(ModuleNotFoundError, NotImplementedError):
    """A module or an option of an original that its stand-in does not have.

    An ImportError too, so that the usual ``try: import ... except ImportError`` takes it for what
    it is.
    """


def not_covered(what: str, instead: str) -> NoReturn:
    raise NotCoveredError(f"ssno_kernels.compat does not cover {what}; what serves: {instead}")
