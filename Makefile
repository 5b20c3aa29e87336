# make lectures   install, run every lecture on the CPU, write build/lectures/index.html
# make test       install, check style, run every test and every notebook
# make bench      speed of optimizers, grading and nodes, as ratios in one run; writes build/*.md and benchmarks.json
#                 (twenty minutes on two quiet cores; each script in tests/benchmarks can be run alone)
# make lab        install, open JupyterLab in lectures/
# make format     let ruff and nbstripout put code and notebooks in order

PYTHON ?= python3
# The exact versions to install; make CONSTRAINTS= test takes the newest that pyproject.toml allows.
CONSTRAINTS := constraints.txt
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: lectures test bench lab format clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "optcourse needs Python 3.11 or newer; say which one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) -e '.[all]'
	@touch $@

lectures: $(READY)
	$(BIN)/optcourse run --device cpu --output build/lectures

test: export OPTCOURSE_THREADS = 1
test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist loadfile tests optcourse
	OPTCOURSE_REHEARSE=1 $(BIN)/python -m pytest -n auto --dist loadfile -o addopts=--strict-markers \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=120 lectures labs/source

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_optim.py
	$(BIN)/python tests/benchmarks/bench_grading.py
	$(BIN)/python tests/benchmarks/bench_nodes.py
	$(BIN)/python tests/benchmarks/results_table.py > build/RESULTS.md
	$(BIN)/python tests/benchmarks/nodes_table.py > build/NODES.md

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=lectures

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id lectures/*.ipynb labs/source/*/*.ipynb

clean:
	rm -rf build $(VENV)
