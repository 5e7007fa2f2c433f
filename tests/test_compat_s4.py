# SPDX-License-Identifier: MIT
"""The stand-in for the function of S4, against its matrix."""

from __future__ import annotations

import pytest
import torch
from compat_loops import TINY, N
from harness import relative_error

from ssno_kernels.compat import NotCoveredError, s4


@pytest.mark.parametrize("conj", [True, False])
def test_log_vandermonde_of_s4(conj):
    v = torch.randn(2, 3, N, dtype=torch.complex128, requires_grad=True)
    x = torch.complex(-torch.rand(3, N).double(), torch.randn(3, N).double()).requires_grad_()
    out = s4.log_vandermonde(v, x, 9, conj)
    matrix = torch.exp(x[..., None] * torch.arange(9))
    expected = (v[..., None, :] @ matrix)[..., 0, :]
    expected = 2 * expected.real if conj else expected
    assert relative_error(out, expected) < TINY
    w = torch.randn_like(out)
    pairs = zip(*(torch.autograd.grad(y, (v, x), w) for y in (out, expected)), strict=True)
    assert all(relative_error(a, b) < TINY for a, b in pairs)
    assert (
        s4.log_vandermonde(v.to(torch.complex64), x.to(torch.complex64), 4).dtype == torch.float32
    )


def test_what_is_not_covered_says_so():
    with pytest.raises(NotCoveredError, match=r"does not cover .*modes that grow.*what serves: "):
        s4.log_vandermonde(*[torch.ones(1, 1) + 0j] * 2, 3)
