# SPDX-License-Identifier: MIT
# make test | make bench [PROFILE=full] | make accuracy [PROFILE=paper] | make gpu | make lint | make clean
#
# Each makes the environment $(VENV) with pinned versions and builds the kernels when need be.
# PYTHON=python3 VENV= uses the interpreter that is there and installs nothing: the kernels are
# then compiled at first use and cached.

PYTHON ?= python3
VENV ?= .venv

export PYTHONPATH := $(CURDIR)

ifeq ($(VENV),)
run := $(PYTHON)
clang_format := clang-format
else
run := $(VENV)/bin/python
clang_format := $(VENV)/bin/clang-format
installed := $(VENV)/.requirements
built := $(VENV)/.kernels
peers := $(VENV)/.accuracy
endif

requirements := $(wildcard tests/requirements.txt bench/requirements.txt)
cpp_files := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu')

.PHONY: test bench accuracy gpu lint clean
.DELETE_ON_ERROR:

# two processes at once where pytest-xdist is there
test: $(built)
	$(run) -m pytest $$($(run) -c "import xdist" 2>/dev/null && echo --numprocesses=2 --dist=loadgroup) $(TESTS)

bench: PROFILE ?= quick
bench: $(built)
	$(run) -m bench --profile $(PROFILE)

accuracy: PROFILE ?= short
accuracy: $(built) $(peers)
	$(run) -m bench.accuracy --profile $(PROFILE)

# On a machine with an NVIDIA GPU, nvcc and a PyTorch with CUDA: the suite with every backend of a
# GPU, the CUDA kernels under compute-sanitizer, and the benchmarks into bench/results.
gpu: PROFILE ?= quick
gpu: export SSNO_REQUIRE ?= reference,composite,cpu,triton,cuda
gpu: $(built)
	$(run) -c "import torch; assert torch.cuda.is_available(), 'no CUDA device is present'"
	$(run) -m pytest $(TESTS)
	for tool in memcheck racecheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 9 \
			--target-processes all $(run) -m pytest -q -p no:cacheprovider \
			tests/test_behaviour.py -k "bitwise and cuda" || exit 1; \
	done
	$(run) -m bench --device cuda --profile $(PROFILE) --out bench/results

lint: $(installed)
	$(run) -m ruff check .
	$(run) -m ruff format --check .
	$(run) -m mypy
	$(clang_format) --dry-run -Werror $(cpp_files) $(wildcard tests/host_cuda/*)

clean:
	rm -rf build *.egg-info ssno_kernels/_C_*.so .pytest_cache .hypothesis .mypy_cache .ruff_cache $(VENV)

$(VENV)/.requirements: $(requirements)
	$(PYTHON) -m venv $(VENV)
	$(run) -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(requirements))
	$(run) -c "import triton" 2>/dev/null || \
		$(run) -m pip install --quiet --disable-pip-version-check triton==3.6.0
	touch $@

$(VENV)/.accuracy: bench/accuracy/requirements.txt $(installed)
	$(run) -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

$(VENV)/.kernels: $(installed) $(cpp_files) setup.py pyproject.toml ssno_kernels/builder.py
	rm -f ssno_kernels/_C_*.so
	$(run) -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --editable .
	touch $@
