# Each target sets up what it needs in .venv; `make PYTHON=python3.12 clean test` uses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
CAPTURE := data_samples/mini_city
RUN := runs/mini_city
# Test processes: one more than the two cores that the suite is made for, since viewer tests wait.
WORKERS ?= 3
# Python keeps its compiled modules: PyTorch takes four seconds longer to import without them, in every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test lint docs clean

demo: .venv/.demo
	$(BIN)/blocknerf run $(CAPTURE) --out $(RUN)
	@echo "Fly-through: $(RUN)/renders/flythrough/video.mp4"
	@echo "Report:      $(RUN)/report.html"
	@echo "Viewer:      $(BIN)/blocknerf view $(RUN)"

# The tests include lint, types, layers and retired words (tests/project).
check: .venv/.test
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test: .venv/.test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.docs
	$(BIN)/mkdocs build --quiet
	@echo "Documentation: build/site/index.html"

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The demo needs fewer packages than the tests. Modules are compiled on first import, not all in advance.
.venv/.demo: EXTRAS := [view]
.venv/.test: EXTRAS := [test]
.venv/.docs: EXTRAS := [docs]
.venv/.demo .venv/.test .venv/.docs: pyproject.toml constraints.txt
	[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".$(EXTRAS)"
	@touch $@
