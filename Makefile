# Each target sets up what it needs in .venv; `make PYTHON=python3.12 clean test` chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
CAPTURE := data_samples/mini_city
RUN := runs/mini_city
# Processes that share the tests: one more than the two cores that they are made for, since tests of the viewer wait.
WORKERS ?= 3

.PHONY: demo test lint clean

demo: .venv/.demo
	$(BIN)/blocknerf run $(CAPTURE) --out $(RUN)
	@echo "Fly-through: $(RUN)/renders/flythrough/video.mp4"
	@echo "Report:      $(RUN)/report.html"
	@echo "Look around: $(BIN)/blocknerf view $(RUN)"

test: .venv/.test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The demo needs half of what the tests do. Modules are compiled when they are first imported, not all ahead.
.venv/.demo: EXTRAS := [view]
.venv/.test: EXTRAS := [test]
.venv/.demo .venv/.test: pyproject.toml constraints.txt
	[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".$(EXTRAS)"
	@touch $@
