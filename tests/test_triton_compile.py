# SPDX-License-Identifier: MIT
"""The Triton kernels compiled for NVIDIA devices, without one: registers, shared memory, variants.

Triton is imported here in processes of their own, one per target: in the other tests it was
imported for its interpreter. They launch the kernels through Triton's own front end, stopped
before the device would be needed, and answer with a table.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("compiled by one process")

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
CASES = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "float32-reverse": {"reverse": True},
    "float64": {"dtype": "float64"},
    "complex": {"is_complex": True},
    "low-rank": {"rank": 8},
    "constant": {"kind_B": "constant", "kind_C": "constant"},
    "states-64": {"states": 64},
    "states-1": {"states": 1},
}
CROSS_CASES = {
    "cross": {},
    "cross-bfloat16-3d": {"dtype": "bfloat16", "grid": (8, 12, 20), "rank": 3},
}
ALIAS_CASES = {
    "alias": {},
    "alias-bfloat16": {"dtype": "bfloat16"},
    "alias-halving": {"down": 4},
    "alias-3d": {"grid": (32, 32, 32)},
}
DAMPED_CASES = {
    "damped-in-segments": {"batch": 1, "grid": (8192,)},
    "damped-bfloat16-periodic": {"dtype": "bfloat16", "boundary": "periodic"},
}
NO_SPILLS = ("float32", "bfloat16", "float32-reverse", "low-rank", *CROSS_CASES, *ALIAS_CASES)
EVERY = (*CASES, *CROSS_CASES, *ALIAS_CASES)
# sm_100 has the shared memory of sm_90, and the same code but for registers
CASES_OF = {80: EVERY, 90: EVERY, 100: NO_SPILLS}
MAIN = ("selective_scan_fwd_kernel", "selective_scan_bwd_kernel")
ALIAS = ("alias_free_activation_fwd_kernel", "alias_free_activation_bwd_kernel")
DAMPED_MAIN = ("damped_conv_tile_kernel", "damped_conv_sums_kernel")


def resources(text: str) -> dict[str, int]:
    """Registers, stack and local bytes of the one function in `cuobjdump -res-usage`'s answer."""
    return {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def test_resources_are_parsed():
    text = " Function k:\n  REG:96 STACK:8 SHARED:1024 LOCAL:16 CONSTANT[0]:664 TEXTURE:0"
    assert resources(text) == {"REG": 96, "STACK": 8, "LOCAL": 16}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Per target: {"kernels": {case: {kernel: resources}}, "variants": ..., "squeezed": ...}."""
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    workers = {
        target: subprocess.Popen(
            [sys.executable, __file__, str(target)], env=environment, stdout=subprocess.PIPE
        )
        for target in SHARED_LIMIT
    }
    answers = {target: worker.communicate(timeout=500)[0] for target, worker in workers.items()}
    assert all(worker.returncode == 0 for worker in workers.values())
    return {target: json.loads(answer) for target, answer in answers.items()}


@pytest.mark.parametrize(
    "target, case", [(target, case) for target, cases in CASES_OF.items() for case in cases]
)
def test_shared_memory_fits(compiled, target, case):
    kernels = compiled[target]["kernels"][case]
    # forward and backward; of a scan the chunk maps of each as well, and the carry
    assert len(kernels) == (2 if case in ALIAS_CASES else 5)
    for name, used in kernels.items():
        assert used["shared"] <= SHARED_LIMIT[target], f"{name}: {used}"


@pytest.mark.parametrize("case", NO_SPILLS)
@pytest.mark.parametrize("target", SHARED_LIMIT)
def test_nothing_spills(compiled, target, case):
    for name, used in compiled[target]["kernels"][case].items():
        assert used["STACK"] == used["LOCAL"] == 0, f"{name}: {used}"


@pytest.mark.parametrize("case", DAMPED_CASES)
@pytest.mark.parametrize("target", SHARED_LIMIT)
def test_damped_conv_fits_and_does_not_spill(compiled, target, case):
    """Every kernel that one forward and one backward call launch, N = 32, both directions."""
    kernels = compiled[target]["damped"][case]
    names = {name for name, _ in kernels}
    assert {*DAMPED_MAIN, "damped_conv_tables_kernel", "damped_conv_reduce_kernel"} <= names
    assert ("damped_conv_carry_kernel" in names) == ("segments" in case)
    for name, used in kernels:
        assert used["shared"] <= SHARED_LIMIT[target], f"{name}: {used}"
        assert used["STACK"] == used["LOCAL"] == 0, f"{name}: {used}"


def test_lengths_of_damped_conv_do_not_recompile(compiled):
    """Whatever B, H and L > 32: one variant where lines start on 16 elements, one where not."""
    first, *aligned, odd, odder = compiled[90]["damped_variants"]
    assert aligned == [first] * len(aligned)
    assert odd == odder


def test_spills_would_show(compiled):
    """The same kernel with a quarter of the registers."""
    assert compiled[90]["squeezed"]["STACK"] > 0


def test_sizes_and_strides_do_not_recompile(compiled):
    """One variant where the rows of a tensor start on 16 elements, one where they do not."""
    variants = compiled[90]["variants"]
    assert variants["aligned"] == dict.fromkeys(MAIN, 1)
    assert variants["all"] == dict.fromkeys(MAIN, 2)


def test_grids_do_not_recompile(compiled):
    """One variant where rows start on 16 elements, one where they do not, whatever H x W."""
    aligned, more_aligned, odd, more_odd = compiled[90]["grids"]
    assert aligned == more_aligned
    assert odd == more_odd


def test_sizes_of_the_alias_free_activation_do_not_recompile(compiled):
    """H x W, strides and padding by whole samples; narrow grids have a variant of their own."""
    assert compiled[90]["activations"] == [dict.fromkeys(ALIAS, 1)] * 4


class _Compiler:
    """Runs the backend's functions with kernels that are compiled and not launched."""

    def __init__(self, target: int):
        from triton.backends.compiler import GPUTarget
        from triton.runtime import driver
        from triton.runtime.jit import JITFunction

        from ssno_kernels.ops.selective_scan import kernel_triton, kernel_triton_plan

        class NoDevice:
            get_current_target = staticmethod(lambda: GPUTarget("cuda", target, 32))
            get_current_device = staticmethod(lambda: 0)
            get_current_stream = staticmethod(lambda device: 0)

        driver.set_active(NoDevice())
        self.launched, self.options, self.kernels = {}, {}, []
        run = JITFunction.run

        def compile_only(function, *arguments, **keywords):
            keywords |= {"warmup": True} | self.options
            kernel = run(function, *arguments, **keywords)
            self.launched[function.__name__] = (function, kernel)
            self.kernels.append((function.__name__, kernel))

        JITFunction.run = compile_only
        kernel_triton_plan.backward_steps = lambda device, low_rank: kernel_triton_plan.steps_for(
            target // 10, low_rank
        )
        self.module, self.plan = kernel_triton, kernel_triton_plan

    def call(self, dtype="float32", batch=2, length=512, **sizes):
        """Forward and backward, in chunks of one interval, all gradients asked for."""
        import torch

        from ssno_kernels.ops.selective_scan.arguments import Arguments, canonical
        from ssno_kernels.ops.selective_scan.function import checkpoint_interval
        from ssno_kernels.ops.selective_scan.spec import make_inputs

        options = {"states": 16, "kind_B": "grouped", "kind_C": "grouped"} | sizes
        inputs = make_inputs(
            getattr(torch, dtype), batch=batch, channels=128, length=length, **options
        )
        inputs.pop("return_final_state")
        empty = dict.fromkeys(Arguments._fields) | {"delta_softplus": False, "reverse": False}
        a = canonical(Arguments(**(empty | inputs)))
        interval = checkpoint_interval(a.A[0].numel())
        self.plan.FORCED_CHUNK = interval
        self.launched.clear()
        out, state, checkpoints = self.module.selective_scan_fwd_triton(*a, True, interval)
        needs = [t is not None for t in a[:10]]
        self.module.selective_scan_bwd_triton(out, state, checkpoints, *a, interval, needs)
        return self.launched

    def call_cross(self, dtype="float32", grid=(32, 48), **sizes):
        """Forward and backward along two traversals that are permuted, the second one reversed."""
        import torch

        from ssno_kernels.ops.cross_selective_scan import Traversal, kernel_triton, spec
        from ssno_kernels.ops.cross_selective_scan.arguments import Arguments, canonical
        from ssno_kernels.ops.cross_selective_scan.function import as_numbers
        from ssno_kernels.ops.selective_scan.function import checkpoint_interval

        axes = tuple(range(len(grid)))
        traversals = (Traversal((*axes[1:], 0)), Traversal(axes[::-1], True))
        options = {"states": 16, "channels": 32} | sizes
        inputs = spec.make_inputs(
            getattr(torch, dtype), grid=grid, traversals=traversals, **options
        )
        empty = dict.fromkeys(Arguments._fields) | {"delta_softplus": True, "stack": False}
        a = canonical(Arguments(**(empty | inputs)))
        interval = checkpoint_interval(a.A.shape[2])
        self.plan.FORCED_CHUNK = interval
        self.launched.clear()
        options = (a.delta_softplus, as_numbers(a.traversals), a.stack, interval)
        out, saved = kernel_triton.cross_selective_scan_fwd_triton(*a[:8], *options)
        needs = [t is not None for t in a[:8]]
        kernel_triton.cross_selective_scan_bwd_triton(out, saved, *a[:8], *options, needs)
        return self.launched

    def call_alias(self, dtype="float32", grid=(64, 64), layout=None, **sizes):
        """Forward and backward on the tiles of a device."""
        import torch

        from ssno_kernels.ops.alias_free_activation import kernel_triton
        from ssno_kernels.ops.alias_free_activation.arguments import (
            ACTIVATIONS,
            Arguments,
            canonical,
            check,
        )
        from ssno_kernels.ops.alias_free_activation.spec import make_inputs

        kernel_triton.planning.on_device = lambda x: True
        defaults = {"activation": "leaky_relu", "negative_slope": 0.2, "gain": 2.0}
        inputs = make_inputs(getattr(torch, dtype), channels=64, grid=grid, **sizes)
        if layout:
            inputs = layout(inputs)
        arguments = defaults | inputs
        a = canonical(check(**{name: arguments[name] for name in Arguments._fields}))
        a = a._replace(activation=ACTIVATIONS.index(a.activation))
        self.launched.clear()
        out = kernel_triton.alias_free_activation_fwd_triton(*a)
        kernel_triton.alias_free_activation_bwd_triton(out, *a, [True, True])
        return self.launched

    def call_damped(self, dtype="float32", batch=4, grid=(512,), channels=64, **sizes):
        """Forward and backward of both directions, all states and gradients asked for."""
        import torch

        from ssno_kernels.ops.damped_conv import kernel_triton, spec
        from ssno_kernels.ops.damped_conv.arguments import Arguments, canonical

        inputs = spec.make_inputs(
            getattr(torch, dtype), batch=batch, grid=grid, channels=channels, states=32, **sizes
        )
        inputs.pop("return_final_state")
        empty = {"initial_state": None, "direction": "both", "boundary": "zero", "dim": 2}
        a = canonical(Arguments(**(empty | inputs)))
        self.kernels.clear()
        out, state = kernel_triton.damped_conv_fwd_triton(*a, True)
        needs = [t is not None for t in a[:5]]
        kernel_triton.damped_conv_bwd_triton(out, state, *a, needs)
        return self.launched

    @staticmethod
    def resources(kernel) -> dict[str, int]:
        import tempfile

        from triton import knobs

        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(kernel.asm["cubin"])
            file.flush()
            command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return resources(text) | {"shared": kernel.metadata.shared}


def _variants(launched, kernels=MAIN) -> dict[str, int]:
    """How many variants of the kernels there are by now."""
    return {name: len(launched[name][0].device_caches[0][0]) for name in kernels}


def _variants_alias(compiler) -> list[dict[str, int]]:
    from ssno_kernels.ops.alias_free_activation.spec import channels_last

    calls = (
        {},
        {"grid": (100, 51), "batch": 3},
        {"grid": (33, 48), "layout": channels_last},
        {"grid": (64, 65), "padding": ((13, 8), (9, 12))},
    )
    return [_variants(compiler.call_alias(**options), ALIAS) for options in calls]


def _answer(target: int) -> dict:
    compiler = _Compiler(target)
    answer = {"kernels": {}}
    if target == 90:
        compiler.call(batch=5, length=1024)
        compiler.call(batch=1, length=4096)
        answer["variants"] = {"aligned": _variants(compiler.call())}
        compiler.call(batch=3, length=251)
        compiler.call(batch=2, length=333)
        answer["variants"]["all"] = _variants(compiler.call())
        compiler.options = {"maxnreg": 64}
        answer["squeezed"] = compiler.resources(compiler.call()["selective_scan_bwd_kernel"][1])
        compiler.options = {}
        answer["activations"] = _variants_alias(compiler)
    calls = (
        (compiler.call, CASES),
        (compiler.call_cross, CROSS_CASES),
        (compiler.call_alias, ALIAS_CASES),
    )
    for call, cases in calls:
        for case in (case for case in cases if case in CASES_OF[target]):
            options = cases[case]
            answer["kernels"][case] = {
                name: compiler.resources(kernel) for name, (_, kernel) in call(**options).items()
            }
    if target == 90:
        grids = ((32, 48), (64, 80), (25, 51), (33, 17))
        answer["grids"] = [_variants(compiler.call_cross(grid=grid)) for grid in grids]
    answer["damped"] = {}
    for case, options in DAMPED_CASES.items():
        compiler.call_damped(**options)
        kernels = {kernel.hash: (name, kernel) for name, kernel in compiler.kernels}
        answer["damped"][case] = [(n, compiler.resources(k)) for n, k in kernels.values()]
    if target == 90:
        sizes = (
            (4, 64, 512),
            (1, 96, 1024),
            (3, 128, 48),
            (5, 64, 4096),
            (4, 64, 333),
            (7, 32, 51),
        )
        answer["damped_variants"] = [
            _variants(compiler.call_damped(batch=B, channels=H, grid=(L,)), DAMPED_MAIN)
            for B, H, L in sizes
        ]
    return answer


if __name__ == "__main__":
    print(json.dumps(_answer(int(sys.argv[1]))))
