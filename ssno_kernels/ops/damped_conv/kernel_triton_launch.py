# SPDX-License-Identifier: MIT
"""Launches the Triton kernels of `damped_conv`.

Forward: tables, then one program for each tile of each channel. Where lines are longer than a tile,
that is done twice: first for what each segment adds to the states, which one more kernel carries
from segment to segment, then for the output. Backward: the same, transposed, for v_u and the
cotangent of the initial state, and one kernel a sweep for the sums of (D8).

What a kernel is compiled for follows from dtypes, the directions, which arguments are given, the
number of axes of the grid that do not lie in memory as one, and T, which L decides: up to 16, up to
32, beyond. Of B, H, L and N nothing else matters but whether strides are multiples of 16 and, where
the boundary is periodic, whether a line is longer than a tile.

Memory beyond the results, in numbers of the state's dtype: tables, 2 N (2 T + 13) a sweep and
channel at most; states between segments, 2 N a sweep and 4096 samples; in the backward, 6 N + T
likewise.
"""

from __future__ import annotations

import triton
from torch import Tensor

from ..selective_scan.arguments import state_dtype
from . import kernel_triton_plan as plan
from .kernel_triton_arguments import Array, Flags, Sizes
from .kernel_triton_bwd import damped_conv_reduce_kernel, damped_conv_sums_kernel
from .kernel_triton_fwd import damped_conv_carry_kernel, damped_conv_tile_kernel
from .kernel_triton_plan import Lines
from .kernel_triton_tables import damped_conv_tables_kernel


class Call:
    """One call of an operator: its arguments, and what is derived from them."""

    def __init__(
        self, u: Tensor, rate: Tensor, coeff: Tensor, D: Tensor | None, direction: int,
        periodic: bool, dim: int, swept: list[Tensor | None], states: list[Tensor | None],
    ) -> None:  # fmt: skip
        """`swept` and `states` are all tensors that lie along the lines of u."""
        self.rate = rate.contiguous()
        self.coeff = coeff.contiguous()
        self.D = None if D is None else D.contiguous()
        self.closed = periodic
        has_states = any(x is not None for x in states)
        self.lines: Lines = plan.lines_of(u, dim, swept, states)
        self.F: Flags
        self.S: Sizes
        self.F, self.S, carried = plan.plan(u, rate, self.lines, direction, periodic, has_states)
        # of plain multiply-adds, each takes more registers
        self.warps = 8 if self.F.precision == "ieee" else 4
        self.tables, self.lags = self._tables(u)
        if not carried:
            self.S = self.S._replace(blocks=0)

    def _tables(self, u: Tensor) -> tuple[Tensor, Tensor]:
        F, S = self.F, self.S
        dtype = state_dtype(u.dtype)
        rows = 2 * F.steps + F.doublings + 1
        tables = u.new_empty((F.sweeps, S.channels, 2, rows, S.blocks * F.block_n), dtype=dtype)
        lags = u.new_empty((S.channels, 2 * F.steps), dtype=dtype)
        damped_conv_tables_kernel[(S.channels,)](
            tables, lags, self.rate, self.coeff, self.D, S.length, S.channels, S.modes, S.blocks,
            F.constants(), num_warps=4,
        )  # fmt: skip
        return tables, lags

    def tiles(self) -> int:
        return int(triton.cdiv(self.S.rows, self.S.lines)) * self.S.segments

    def apply(
        self, x: Tensor, out: Tensor | None, enter: Tensor | None, leave: Tensor | None,
        transposed: bool,
    ) -> Array | None:  # fmt: skip
        """The convolution of x, or the transposed one, with the states before and after it.

        Returns those before the lines, or the segments of lines, of tiles.
        """
        before, after = self.lines.states(enter), self.lines.states(leave)
        if self.S.segments > 1:
            before, after = self._carried(x, enter, leave, transposed), None
        if out is not None or after is not None:
            self._launch(x, out, before, after, transposed)
        return before

    def differentiate(
        self, v_rate: Tensor | None, v_coeff: Tensor | None, v_D: Tensor | None, u: Tensor,
        v_out: Tensor, enter: Array | None, v_enter: Array | None,
    ) -> None:  # fmt: skip
        """(D8) and v_D, from what `apply` has returned for u and for v_out."""
        S, F, lines = self.S, self.F, self.lines
        tiles = self.tiles()
        sums = self.tables.new_empty((F.sweeps, tiles, S.channels, 6 * S.blocks * F.block_n))
        lags = self.lags.new_empty((F.sweeps, tiles, S.channels, F.steps))
        for sweep in range(F.sweeps):
            damped_conv_sums_kernel[(tiles * S.channels,)](
                lines.samples(u), lines.samples(v_out), enter, v_enter, self.tables, lags[sweep],
                sums[sweep], lines.inner(), *S, sweep, F.constants(), num_warps=self.warps,
            )  # fmt: skip
        blocks = self.tables.shape[-1] // F.block_n
        damped_conv_reduce_kernel[(S.channels * F.sweeps * blocks,)](
            v_rate, v_coeff, v_D, self.coeff, self.tables, sums, lags, tiles, S.channels, S.modes,
            blocks, int(S.blocks > 0), 8, F.constants(), num_warps=8,
        )  # fmt: skip

    def _carried(
        self, x: Tensor, enter: Tensor | None, leave: Tensor | None, transposed: bool
    ) -> Array:
        """The states before the segments of lines."""
        S, F = self.S, self.F
        ends = self.tables.new_empty((S.segments, F.sweeps, S.rows, S.channels, S.modes, 2))
        edges = self.lines.ends(ends)
        self._launch(x, None, None, edges, transposed)
        block = 128
        count = ends[0].numel() // 2
        damped_conv_carry_kernel[(triton.cdiv(count, block),)](
            ends, self.lines.states(enter), self.lines.states(leave), self.rate,
            self.lines.inner(), S.channels, S.rows, S.length, S.modes, S.segments, transposed,
            self.closed, block, F.constants(), num_warps=4,
        )  # fmt: skip
        return edges

    def _launch(
        self, x: Tensor, out: Tensor | None, before: Array | None, after: Array | None,
        transposed: bool,
    ) -> None:  # fmt: skip
        damped_conv_tile_kernel[(self.tiles() * self.S.channels,)](
            self.lines.samples(out), self.lines.samples(x), before, after, self.tables, self.lags,
            self.lines.inner(), *self.S, transposed, self.F.constants(), num_warps=self.warps,
        )  # fmt: skip
