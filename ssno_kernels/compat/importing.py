# SPDX-License-Identifier: MIT
"""The stand-ins under the originals' import names: a finder at the end of Python's list of finders.

At the end it is asked for what nothing else provides, so an installed original wins, whenever it is
imported. A finder with names to override stands at the front.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

from .not_covered import NotCoveredError, not_covered

_HERE = __name__.rpartition(".")[0]
_SCAN_INTERFACE = "selective_scan_fn selective_scan_ref mamba_inner_fn mamba_inner_ref"
_STATE_UPDATE = "selective_state_update selective_state_update_ref"
_CONV = "causal_conv1d_fn causal_conv1d_update"
_CONV_REFS = "causal_conv1d_ref causal_conv1d_update_ref"
_NORM = "RMSNorm layer_norm_fn rms_norm_fn"

STAND_INS: dict[str, dict[str, str]] = {
    "mamba_ssm": {"mamba_ssm": "selective_scan_fn mamba_inner_fn Mamba __version__"},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": {"mamba_ssm": _SCAN_INTERFACE},
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.selective_state_update": {"mamba_ssm": _STATE_UPDATE},
    "mamba_ssm.ops.triton.layer_norm": {"mamba_ssm": _NORM},
    "mamba_ssm.ops.triton.layernorm": {"mamba_ssm": _NORM},
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.mamba_simple": {"mamba_ssm": "Mamba"},
    "mamba_ssm.utils": {},
    "mamba_ssm.utils.generation": {"mamba_ssm": "InferenceParams"},
    "causal_conv1d": {"causal_conv1d": f"{_CONV} __version__"},
    "causal_conv1d.causal_conv1d_interface": {"causal_conv1d": f"{_CONV} {_CONV_REFS}"},
    "causal_conv1d.causal_conv1d_varlen": {"causal_conv1d": "causal_conv1d_varlen_states"},
    "causal_conv1d.cpp_functions": {
        "causal_conv1d_cuda": "causal_conv1d_fwd_function causal_conv1d_bwd_function "
        "causal_conv1d_update_function"
    },
    "causal_conv1d_cuda": {
        "causal_conv1d_cuda": "causal_conv1d_fwd causal_conv1d_bwd causal_conv1d_update"
    },
    "selective_scan_cuda": {"selective_scan_cuda": "fwd bwd"},
    "selective_scan_cuda_core": {"selective_scan_cuda_core": "fwd bwd"},
    "selective_scan_cuda_oflex": {"selective_scan_cuda_oflex": "fwd bwd"},
    "csms6s": {"vmamba": "selective_scan_fn selective_scan_flop_jit"},
    "csm_triton": {"vmamba": "cross_scan_fn cross_merge_fn"},
}
"""Import name -> our modules and what they provide; a name without any is a package."""

_INSTEAD = "the original package on a GPU; README.md of ssno_kernels lists what is covered"


class _Loader(Loader):
    """Fills a module from ours; what the original has beyond that raises, and says so."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__doc__ = f"Stand-in for `{name}` by ssno_kernels.compat."
        for source, attributes in STAND_INS[name].items():
            ours = importlib.import_module(f"{_HERE}.{source}")
            for attribute in attributes.split():
                setattr(module, attribute, getattr(ours, attribute))

        def missing(attribute: str) -> None:
            if attribute.startswith("__") or f"{name}.{attribute}" in STAND_INS:
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
            not_covered(f"{name}.{attribute}", _INSTEAD)

        module.__getattr__ = missing  # type: ignore[method-assign]


class _StandIn(Distribution):
    """What `importlib.metadata` says of a stand-in."""

    def __init__(self, name: str):
        self.import_name = name

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        version = importlib.import_module(f"{_HERE}.{self.import_name}").__version__
        return (
            f"Metadata-Version: 2.1\nName: {self.import_name}\nVersion: {version}\n"
            "Summary: stand-in by ssno_kernels.compat\n"
        )

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return Path(__file__).parent / path


class _Finder(MetaPathFinder):
    """Finds the stand-ins of `names`; modules below them are said not to be covered."""

    def __init__(self, names: Collection[str]):
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        if fullname in STAND_INS:
            package = any(name.startswith(f"{fullname}.") for name in STAND_INS)
            return ModuleSpec(fullname, _Loader(), origin="ssno_kernels", is_package=package)
        return None

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterator[Distribution]:
        wanted = getattr(context, "name", None)
        for name in ("mamba_ssm", "causal_conv1d"):
            if name in self.names and wanted in (None, name, name.replace("_", "-")):
                yield _StandIn(name)


class _LastFinder(_Finder):
    """The same for what nothing else provides: below a package, only where that is a stand-in."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, below = fullname.partition(".")
        if below and not _is_stand_in(sys.modules.get(top)):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None and top in STAND_INS:
            raise NotCoveredError(
                f"ssno_kernels.compat does not cover {fullname}; what serves: {_INSTEAD}",
                name=fullname,
            )
        return spec


def _is_stand_in(module: ModuleType | None) -> bool:
    return isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Loader)


def install(override: bool | Iterable[str] = False) -> None:
    """Let the originals' import names find the stand-ins, in this process, from now on.

    Names: ``mamba_ssm``, ``causal_conv1d``, ``causal_conv1d_cuda``, ``selective_scan_cuda``,
    ``selective_scan_cuda_core``, ``selective_scan_cuda_oflex``, VMamba's ``csms6s`` and
    ``csm_triton``, and the modules below them that `STAND_INS` lists.

    Args:
        override: False: an original that is installed wins. True: the stand-ins win, and originals
            that were imported already are forgotten. Names: only these are overridden.

    A module that is looked for below a stand-in and is not covered raises `NotCoveredError`, which
    is a NotImplementedError and an ImportError. ``importlib.util.find_spec`` and
    ``importlib.metadata.version`` find the stand-ins; their versions end in ``+ssno``.
    """
    names = STAND_INS.keys() if override is True else set(override or ())
    if unknown := set(names) - STAND_INS.keys():
        raise ValueError(
            f"override names {', '.join(sorted(unknown))}; expected some of {', '.join(STAND_INS)}"
        )
    uninstall()
    for name in names:
        if name in sys.modules and not _is_stand_in(sys.modules[name]):
            del sys.modules[name]
    if names:
        sys.meta_path.insert(0, _Finder(names))
    sys.meta_path.append(_LastFinder(STAND_INS.keys()))


def uninstall() -> None:
    """Undo `install`; what was imported by name from a stand-in stays as it is."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Finder)]
    for name in [n for n in STAND_INS if _is_stand_in(sys.modules.get(n))]:
        del sys.modules[name]
