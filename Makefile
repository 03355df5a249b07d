# Two commands: `make demo` shows the whole product, `make test` proves it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := .ci/constraints.txt

.PHONY: demo test test-all lint clean gallery matrix

demo: $(VENV)/.demo
	$(BIN)/toolkit run glow
	$(BIN)/toolkit run pixelcnn
	$(BIN)/toolkit selftest exported/glow/bundle.zip
	$(BIN)/toolkit selftest exported/pixelcnn/bundle.zip

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gallery: $(VENV)/.demo
	$(BIN)/python bench/gallery.py

# Every recipe: exported, optimized, built for every target and verified; one table of it all.
matrix: $(VENV)/.test
	COLUMNS=200 $(BIN)/toolkit sweep --all --until verify -o exported/matrix > exported/gallery/matrix.txt

# torch comes first, from its pin: a package that needs it would pull another build.
$(VENV)/.torch: $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q "$$(grep '^torch==' $(CONSTRAINTS))"
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -c $(CONSTRAINTS) -e '.[cpu,tensorrt-rtx]'
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) install -q -c $(CONSTRAINTS) -e '.[cpu,tensorrt-rtx,openvino,flows,hf,test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
