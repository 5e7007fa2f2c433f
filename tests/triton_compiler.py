# SPDX-License-Identifier: MIT
"""Compiles the Triton kernels for one NVIDIA target and prints what came out, as JSON.

    python tests/triton_compiler.py 90

It calls the backends' own functions, with kernels that are compiled and not launched. In a process
of its own: elsewhere in the tests Triton was imported for its interpreter. `test_triton_compile.py`
reads the tables of cases and the answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

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


class Compiler:
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


def variants(launched, kernels=MAIN) -> dict[str, int]:
    """How many variants of the kernels there are by now."""
    return {name: len(launched[name][0].device_caches[0][0]) for name in kernels}


def variants_alias(compiler) -> list[dict[str, int]]:
    from ssno_kernels.ops.alias_free_activation.spec import channels_last

    calls = (
        {},
        {"grid": (100, 51), "batch": 3},
        {"grid": (33, 48), "layout": channels_last},
        {"grid": (64, 65), "padding": ((13, 8), (9, 12))},
    )
    return [variants(compiler.call_alias(**options), ALIAS) for options in calls]


def answer_of(target: int) -> dict:
    compiler = Compiler(target)
    answer = {"kernels": {}}
    if target == 90:
        compiler.call(batch=5, length=1024)
        compiler.call(batch=1, length=4096)
        answer["variants"] = {"aligned": variants(compiler.call())}
        compiler.call(batch=3, length=251)
        compiler.call(batch=2, length=333)
        answer["variants"]["all"] = variants(compiler.call())
        compiler.options = {"maxnreg": 64}
        answer["squeezed"] = compiler.resources(compiler.call()["selective_scan_bwd_kernel"][1])
        compiler.options = {}
        answer["activations"] = variants_alias(compiler)
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
        answer["grids"] = [variants(compiler.call_cross(grid=grid)) for grid in grids]
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
            variants(compiler.call_damped(batch=B, channels=H, grid=(L,)), DAMPED_MAIN)
            for B, H, L in sizes
        ]
    return answer


if __name__ == "__main__":
    print(json.dumps(answer_of(int(sys.argv[1]))))
