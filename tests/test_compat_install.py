# SPDX-License-Identifier: MIT
"""The import names: who wins, what is found, what is said of the rest, and a script run so."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssno_kernels import __main__ as command_line
from ssno_kernels import compat
from ssno_kernels.compat.importing import STAND_INS

TOPS = sorted({name.partition(".")[0] for name in STAND_INS})


@pytest.fixture(autouse=True)
def imports_as_before():
    before, finders, path = dict(sys.modules), list(sys.meta_path), list(sys.path)
    yield
    compat.uninstall()
    for name in [n for n in sys.modules if n.partition(".")[0] in TOPS]:
        if name not in before:
            del sys.modules[name]
    assert sys.meta_path == finders
    sys.path[:] = path


def original(folder: Path, name: str, text: str = "mark = 'original'") -> None:
    """Something that is installed under an original's name."""
    path = folder / f"{name.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", STAND_INS)
def test_every_name_is_found(name):
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        pytest.skip(f"the original of {name} is installed")
    compat.install()
    assert importlib.util.find_spec(name) is not None
    module = importlib.import_module(name)
    for source, attributes in STAND_INS[name].items():
        ours = importlib.import_module(f"ssno_kernels.compat.{source}")
        for attribute in attributes.split():
            assert getattr(module, attribute) is getattr(ours, attribute)
    assert "ssno_kernels" in repr(module)


IMPORTS = """
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update, __version__
from causal_conv1d.causal_conv1d_interface import causal_conv1d_fn, causal_conv1d_ref
from causal_conv1d.causal_conv1d_interface import causal_conv1d_update, causal_conv1d_update_ref
from causal_conv1d.causal_conv1d_varlen import causal_conv1d_varlen_states
from causal_conv1d.cpp_functions import causal_conv1d_fwd_function, causal_conv1d_bwd_function
from causal_conv1d.cpp_functions import causal_conv1d_update_function
from causal_conv1d_cuda import causal_conv1d_fwd, causal_conv1d_bwd, causal_conv1d_update
from csm_triton import cross_scan_fn, cross_merge_fn
from csms6s import selective_scan_fn, selective_scan_flop_jit
from mamba_ssm import Mamba, mamba_inner_fn, selective_scan_fn, __version__
from mamba_ssm.modules.mamba_simple import Mamba
from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn, mamba_inner_ref
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn, selective_scan_ref
from mamba_ssm.ops.triton.layer_norm import RMSNorm, layer_norm_fn, rms_norm_fn
from mamba_ssm.ops.triton.layernorm import RMSNorm, layer_norm_fn, rms_norm_fn
from mamba_ssm.ops.triton.selective_state_update import selective_state_update
from mamba_ssm.ops.triton.selective_state_update import selective_state_update_ref
from mamba_ssm.utils.generation import InferenceParams
from selective_scan_cuda import fwd, bwd
from selective_scan_cuda_core import fwd, bwd
from selective_scan_cuda_oflex import fwd, bwd
"""


@pytest.mark.parametrize("statement", IMPORTS.strip().splitlines())
def test_usual_imports(statement):
    """As the projects that use the originals write them."""
    compat.install(override=True)
    found: dict = {}
    exec(statement, found)
    del found["__builtins__"]
    for name, value in found.items():
        if name == "__version__":
            assert value.endswith("+ssno")
        else:
            assert value.__module__.startswith("ssno_kernels.compat.")


def test_versions_say_what_they_are():
    compat.install(override=True)
    for name, version in (("mamba_ssm", "1.2.2+ssno"), ("causal-conv1d", "1.6.1+ssno")):
        assert importlib.metadata.version(name) == version
        assert importlib.import_module(name.replace("-", "_")).__version__ == version
        assert "ssno_kernels" in importlib.metadata.metadata(name)["Summary"]
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("selective_scan_cuda")


def test_an_original_wins_unless_overridden(tmp_path):
    original(tmp_path, "selective_scan_cuda")
    compat.install()
    assert importlib.import_module("selective_scan_cuda").mark == "original"
    compat.install(override=True)  # although imported already
    assert importlib.import_module("selective_scan_cuda").fwd is compat.selective_scan_cuda.fwd
    compat.uninstall()
    assert importlib.import_module("selective_scan_cuda").mark == "original"


def test_one_module_of_an_original_is_overridden(tmp_path):
    for name in ("mamba_ssm.__init__", "mamba_ssm.ops.__init__", "mamba_ssm.ops.other"):
        original(tmp_path, name)
    compat.install(override=["mamba_ssm.ops.selective_scan_interface"])
    assert importlib.import_module("mamba_ssm.ops.other").mark == "original"
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    assert interface.selective_scan_fn is compat.mamba_ssm.selective_scan_fn
    with pytest.raises(ModuleNotFoundError) as caught:  # a stand-in does not fill an original
        importlib.import_module("mamba_ssm.modules")
    assert not isinstance(caught.value, compat.NotCoveredError)


@pytest.mark.parametrize(
    "statement",
    [
        "import mamba_ssm.modules.mamba2",
        "from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined",
        "from mamba_ssm import Mamba2",
    ],
)
@pytest.mark.parametrize("error", [NotImplementedError, ImportError])
def test_what_is_not_covered_says_so(statement, error):
    compat.install(override=True)
    with pytest.raises(error, match=r"does not cover mamba_ssm\..*; what serves: "):
        exec(statement)


def test_other_imports_are_left_alone():
    compat.install()
    assert importlib.util.find_spec("a_package_that_is_nowhere") is None
    compat.uninstall()
    for name in TOPS:
        assert not getattr(importlib.util.find_spec(name), "origin", "").startswith("ssno")


def test_unknown_name_to_override():
    with pytest.raises(ValueError, match="override names mamba_sm; expected some of mamba_ssm"):
        compat.install(override=["mamba_sm"])


def test_a_script_runs_unedited(tmp_path):
    """With its own arguments, and with the modules beside it."""
    (tmp_path / "helper.py").write_text("width = 8")
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch, helper\nfrom mamba_ssm import Mamba\n"
        "assert __name__ == '__main__'\n"
        "Mamba(helper.width)(torch.ones(1, 2, 8)).sum().backward()\n"
        "print(sys.argv[1:], Mamba.__module__)\n"
    )
    command = [sys.executable, "-m", "ssno_kernels", "run", "--compat", "--override", "all"]
    run = subprocess.run(
        [*command, str(script), "--epochs", "3"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "['--epochs', '3'] ssno_kernels.compat.mamba_block" in run.stdout


def test_a_script_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ssno_kernels", "run", "--compat"])
    with pytest.raises(SystemExit):
        command_line.main()
    assert "required: script" in capsys.readouterr().err


def test_the_table_in_the_readme_names_tests_that_exist():
    root = Path(__file__).parents[1]
    table = (root / "README.md").read_text().split("## Drop-in")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!original|--).*\| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        assert re.fullmatch(r"(`test_\w+\.py::test_\w+`(, )?)+", row)
        for file, name in re.findall(r"(test_\w+\.py)::(test_\w+)", row):
            assert f"\ndef {name}(" in (root / "tests" / file).read_text(), name
