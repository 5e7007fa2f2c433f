# SPDX-License-Identifier: MIT
"""What the stand-ins of `ssno_kernels.compat` are compared with: loops, from the contracts."""

from __future__ import annotations

import torch
from harness import relative_error
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu, softplus

B, D, N, L = 2, 4, 3, 7
TINY = 1e-12


def scan_loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, h=None):
    """(out, last state) from state h; B, C (D, N), (B, [G,] N, L), interleaved for a complex A."""

    def at(M: Tensor, t: int) -> Tensor:
        if M.dim() == 2:
            return M
        M = M[:, None] if M.dim() == 3 else M
        M_t = torch.complex(M[..., 2 * t], M[..., 2 * t + 1]) if A.is_complex() else M[..., t]
        return M_t.repeat_interleave(len(A) // M.shape[1], 1)

    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    dt = softplus(dt) if delta_softplus else dt
    h = torch.zeros(len(u), *A.shape, dtype=A.dtype) if h is None else h
    y = []
    for t in range(u.shape[-1]):
        s = dt[..., t, None]
        h = torch.exp(s * A) * h + s * at(B, t) * u[..., t, None]
        y_t = (at(C, t) * h).sum(-1)
        y.append(2 * y_t.real if A.is_complex() else y_t)
    out = torch.stack(y, -1)
    out = out if D is None else out + D[:, None] * u
    return (out if z is None else out * silu(z)), h


def inner_loop(xz, conv_w, conv_b, x_w, dt_w, out_w, out_b, A, B, C, D, bias, B_bias, C_bias, rms):
    """The block between its projections, delta formed; rms = (weights of B, C, delta)."""

    def normed(M, weight):
        return (
            M if weight is None else M * (M.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
        )

    x, z = xz.chunk(2, 1)
    width, R = conv_w.shape[-1], dt_w.shape[1]
    x = silu(conv1d(pad(x, (width - 1, 0)), conv_w, conv_b, groups=x.shape[1]))
    p = x.mT @ x_w.T
    states = A.shape[1] * (2 if A.is_complex() else 1)

    def projected(given, first, added, weight):
        if given is not None:
            return given
        M = normed(p[..., first : first + states] + (0 if added is None else added), weight)
        return M.unflatten(-1, (N, -1)).permute(0, 2, 1, 3).flatten(2) if A.is_complex() else M.mT

    B_full = projected(B, R, B_bias, rms[0])
    C_full = projected(C, p.shape[-1] - states, C_bias, rms[1])
    delta = normed(p[..., :R] @ dt_w.T, rms[2]).mT
    out, _ = scan_loop(x, delta, A, B_full, C_full, D, z, bias, True)
    out = out.mT @ out_w.T
    return out if out_b is None else out + out_b


def inputs(length: int = L, kind: str = "real", groups: int = 0, extras: str = "D z delta_bias"):
    """In float64; kind 'complex', or 'constant' for B and C of the channels."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    is_complex = kind == "complex"
    A = -normal(D, N).abs()
    A = torch.complex(A, normal(D, N)) if is_complex else A
    grouped = (groups,) if groups else ()
    shape = (D, N) if kind == "constant" else (B, *grouped, N, (1 + is_complex) * length)
    given = {
        "u": normal(B, D, length),
        "delta": normal(B, D, length) - 1,
        "A": A,
        "B": normal(*shape),
        "C": normal(*shape),
        "D": normal(D),
        "z": normal(B, D, length),
        "delta_bias": normal(D),
    }
    optional = {"D", "z", "delta_bias"} - set(extras.split())
    return {k: v for k, v in given.items() if k not in optional}


def gradients(outputs, leaves: dict[str, Tensor], v: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(outputs, list(leaves.values()), v)
    return dict(zip(leaves, found, strict=True))


def as_leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().requires_grad_() for k, v in given.items()}


def assert_all(results: dict, expected: dict, bound: float = TINY) -> None:
    for name, value in expected.items():
        assert relative_error(results[name], value) < bound, name
