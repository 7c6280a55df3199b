# Each target sets up what it needs in .venv; `make PYTHON=python3.12 test` chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
CAPTURE := data_samples/mini_city
RUN := runs/mini_city
# Processes that share the tests: one more than the two cores that they are made for, since tests of the viewer wait.
WORKERS ?= 3

.PHONY: demo test lint clean

demo: .venv/.ready
	$(BIN)/blocknerf run $(CAPTURE) --out $(RUN)
	@echo "Fly-through: $(RUN)/renders/flythrough/video.mp4"
	@echo "Report:      $(RUN)/report.html"

test: .venv/.ready
	$(BIN)/python -m pytest -n $(WORKERS)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@
