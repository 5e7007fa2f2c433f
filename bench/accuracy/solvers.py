# SPDX-License-Identifier: MIT
"""Trajectories of PDEs by the spectral solvers of `exponax`, in float64.

    python -m bench.accuracy.solvers EQUATION PART COUNT FILE

runs in a process of its own, so that JAX and its 64-bit mode stay out of PyTorch's. Sample i of a
part has a random generator of its own: the first of many samples are those of a run with fewer.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

SEED = 2507
PARTS = ("train", "test")


@dataclass(frozen=True)
class Equation:
    """Frames `interval` apart of a periodic field of `points` an axis, of which every `keep`-th
    is kept; `substeps` of the solver are taken between two frames."""

    axes: int
    extent: float
    points: int
    keep: int
    frames: int
    interval: float
    substeps: int
    initial: Callable[[Equation, np.random.Generator], np.ndarray]
    stepper: Callable[[Equation], object]

    @property
    def dt(self) -> float:
        return self.interval / self.substeps


def waves(
    equation: Equation,
    random: np.random.Generator,
    *,
    count: int,
    amplitude: tuple[float, float],
    numbers: tuple[int, int],
) -> np.ndarray:
    """A sum of sines whose wave numbers, amplitudes and phases are uniform."""
    x = np.arange(equation.points) / equation.points
    a = random.uniform(*amplitude, (count, 1))
    phase = random.uniform(0, 2 * math.pi, (count, 1))
    number = random.integers(numbers[0], numbers[1] + 1, (count, 1))
    return (a * np.sin(2 * math.pi * number * x + phase)).sum(0)


def gaussian_field(equation: Equation, random: np.random.Generator) -> np.ndarray:
    """N(0, tau^3 (tau^2 - laplacian)^-alpha) of mean 0, with alpha = 2.5 and tau = 7."""
    n, alpha, tau = equation.points, 2.5, 7.0
    k = np.fft.fftfreq(n, 1 / n)
    square = 4 * math.pi**2 * (k[:, None] ** 2 + k**2)
    deviation = math.sqrt(2) * tau ** (alpha - 1) * (square + tau**2) ** (-alpha / 2)
    deviation[0, 0] = 0
    # Modes are drawn for a grid that does not depend on `points`: lower ones are the same on all.
    drawn = random.standard_normal((2, 64, 64))
    coefficients = np.zeros((n, n), complex)
    low = np.arange(-min(n, 64) // 2, min(n, 64) // 2)
    coefficients[np.ix_(low, low)] = (drawn[0] + 1j * drawn[1])[np.ix_(low, low)]
    return np.fft.ifft2(n**2 * deviation * coefficients).real


def kuramoto_sivashinsky(viscosity: float, equation: Equation):
    """u_t + u u_x + u_xx + viscosity u_xxxx = 0"""
    from exponax.stepper import KuramotoSivashinskyConservative

    return KuramotoSivashinskyConservative(
        1, equation.extent, equation.points, equation.dt, fourth_order_scale=viscosity, order=4
    )


def burgers(viscosity: float, equation: Equation):
    """u_t + (u^2 / 2)_x = viscosity u_xx"""
    from exponax.stepper import Burgers

    return Burgers(
        1, equation.extent, equation.points, equation.dt,
        diffusivity=viscosity, conservative=True, order=4,
    )  # fmt: skip


def forced_vorticity(viscosity: float, equation: Equation):
    """w_t + v . grad w = viscosity laplacian w + 0.1 (sin + cos)(2 pi (x + y)), w = curl v"""
    import jax.numpy as jnp
    from exponax.nonlin_fun import VorticityConvection2d
    from exponax.stepper import NavierStokesVorticity

    x = jnp.arange(equation.points) / equation.points
    angle = 2 * jnp.pi * (x[:, None] + x)
    force = jnp.fft.rfft2(0.1 * (jnp.sin(angle) + jnp.cos(angle)))[None]

    class Forced(VorticityConvection2d):
        def __call__(self, u_hat):
            return super().__call__(u_hat) + force

    class Torus(NavierStokesVorticity):
        def _build_nonlinear_fun(self, derivative_operator):
            # exponax's stream function has the laplacian +w, so -1 gives v the curl +w.
            return Forced(
                2, self.num_points, convection_scale=-1.0,
                derivative_operator=derivative_operator, dealiasing_fraction=2 / 3,
            )  # fmt: skip

    return Torus(2, equation.extent, equation.points, equation.dt, diffusivity=viscosity, order=4)


def _ks(viscosity: float) -> Equation:
    initial = partial(waves, count=10, amplitude=(-0.5, 0.5), numbers=(1, 2))
    stepper = partial(kuramoto_sivashinsky, viscosity)
    return Equation(1, 64.0, 512, 1, 26, 0.1, 10, initial, stepper)


EQUATIONS = {
    "ks-0.075": _ks(0.075),
    "ks-0.1": _ks(0.1),
    "ks-0.125": _ks(0.125),
    "burgers": Equation(
        1, 1.0, 1024, 2, 26, 0.04, 40,
        partial(waves, count=2, amplitude=(0.0, 1.0), numbers=(1, 8)),
        partial(burgers, 0.01 / math.pi),
    ),
    "torus": Equation(
        2, 1.0, 128, 1, 21, 1.0, 50, gaussian_field, partial(forced_vorticity, 1e-5)
    ),
}  # fmt: skip


def solve(equation: Equation, part: str, count: int, at_once: int | None = None) -> np.ndarray:
    """(count, frames, *grid) float32, the first frame being the initial condition."""
    import exponax
    import jax
    from tqdm import tqdm

    jax.config.update("jax_enable_x64", True)
    step = exponax.repeat(equation.stepper(equation), equation.substeps)
    advance = jax.jit(jax.vmap(exponax.rollout(step, equation.frames - 1, include_init=True)))
    at_once = at_once or max(1, 2**18 // equation.points**equation.axes)
    kept = (slice(None, None, equation.keep),) * equation.axes
    solved = []
    with tqdm(
        total=count, desc=f"solving, {part}", unit="sample", leave=False, disable=None
    ) as bar:
        for start in range(0, count, at_once):
            chosen = range(start, min(start + at_once, count))
            seeds = [[SEED, PARTS.index(part), i] for i in chosen]
            initial = [equation.initial(equation, np.random.default_rng(s)) for s in seeds]
            fields = np.asarray(advance(np.stack(initial)[:, None]))[:, :, 0]
            solved.append(fields[(slice(None), slice(None), *kept)].astype(np.float32))
            bar.update(len(chosen))
    result = np.concatenate(solved)
    if not np.isfinite(result).all():
        raise ArithmeticError("the solver diverged: take more substeps")
    return result


def main(name: str, part: str, count: str, path: str) -> None:
    """Write the samples where `path` says; a file that is there is whole, whoever else makes it."""
    partial_file = Path(f"{path}.{os.getpid()}.partial")
    with partial_file.open("wb") as file:
        np.save(file, solve(EQUATIONS[name], part, int(count)))
    partial_file.replace(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
