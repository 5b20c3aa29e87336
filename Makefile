# make lectures   install, run every lecture on the CPU, write build/lectures/index.html
# make test       install, check style and types, run every test and every notebook
# make check      a subset of it for the inner loop: style, types, doctests, the tests that start no other process
# make bench      speed of optimizers (on a GPU, too), grading, nodes and landscapes, as ratios in one run, and (as
#                 root) plans on a wire of limited rate; writes build/*.md and benchmarks.json
#                 (some 28 minutes on two quiet cores; each script in tests/benchmarks can be run alone)
# make mutants    edit every constant of optcourse.theory, and of some modules of optcourse.nodes, alone and run its tests;
#                 writes tests/benchmarks/MUTANTS.md
#                 (some 30 minutes on two quiet cores)
# make lab        install, open JupyterLab with a start page that leads to lectures and labs
# make format     let ruff and nbstripout put code and notebooks in order

PYTHON ?= python3
# The exact versions to install; make CONSTRAINTS= test takes the newest that pyproject.toml allows.
CONSTRAINTS := constraints.txt
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

# What make check leaves to make test: browsers, the book, kernels, sandboxes, process groups, compilers, tests of the tests.
SLOW := $(addprefix --ignore=tests/,pages test_alttext.py test_contributing.py test_offline.py test_repository.py test_gpu_cells.py \
  optim/test_optim_compile.py optim/test_optim_memory.py optim/test_optim_wrappers.py \
  $(addprefix course/,test_book.py test_book_handbook.py test_book_of_the_course.py test_interrupt.py test_odd_paths.py test_report.py test_runner.py) \
  $(addprefix grading/,test_batch.py test_check.py test_containment.py test_corpus_cheating.py test_corpus_classes.py \
    test_corpus_files.py test_corpus_notebooks.py test_corpus_pages.py test_corpus_processes.py \
    test_corpus_resources.py test_corpus_shadowing.py test_fallback.py test_formgrader.py test_labs.py test_roster.py \
    test_trivial.py test_world.py) \
  $(addprefix nodes/,test_asynchronous.py test_checkpoint.py test_equality.py test_failure.py test_gradients.py \
    test_launch.py test_loopback.py test_nodes_cli.py test_orphans.py test_separate_folders.py test_two_hosts.py))

.PHONY: lectures test check bench mutants lab format clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "optcourse needs Python 3.11 or newer; say which one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) -e '.[all]'
	$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" 2> /dev/null
	@touch $@

lectures: $(READY)
	$(BIN)/optcourse run --device cpu --output build/lectures

test check: export OPTCOURSE_THREADS = 1
test check: export OMP_NUM_THREADS = 1
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n auto --dist loadfile $(SLOW) tests optcourse

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n auto --dist loadfile tests optcourse
	OPTCOURSE_REHEARSE=1 $(BIN)/python -m pytest -n auto --dist loadfile -o addopts=--strict-markers \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=120 lectures labs/source

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_optim.py
	$(BIN)/python tests/benchmarks/bench_optim.py --device cuda
	$(BIN)/python tests/benchmarks/bench_grading.py
	$(BIN)/python tests/benchmarks/bench_nodes.py
	$(BIN)/python tests/benchmarks/bench_landscape.py
	$(BIN)/python tests/benchmarks/bench_wire.py
	$(BIN)/python tests/benchmarks/results_table.py > build/RESULTS.md
	$(BIN)/python tests/benchmarks/nodes_table.py > build/NODES.md
	$(BIN)/python tests/benchmarks/landscape_table.py > build/LANDSCAPE.md
	$(BIN)/python tests/benchmarks/wire_table.py > build/WIRE.md

mutants: export OPTCOURSE_THREADS = 1
mutants: export OMP_NUM_THREADS = 1
mutants: $(READY)
	$(BIN)/python tests/benchmarks/mutate_theory.py --jobs 2

lab: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" jupyter lab --LabApp.default_url=/lab/tree/start.ipynb --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id lectures/*.ipynb labs/source/*/*.ipynb

clean:
	rm -rf build $(VENV)
