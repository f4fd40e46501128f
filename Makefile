# `make demo` and `make test` need python3 and make; everything else is installed into .venv.
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all check format schema lock clean

.venv: $(READY)

# uv does not read pip's folder of wheels, so it is handed over. Bytecode is compiled once here, or every worker process
# would compile torch and Ray for itself where Python may not write it.
$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || python3 -m venv .venv
	$(BIN)/python -m pip install -q uv
	links="$${PIP_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)}"; \
	UV_FIND_LINKS="$$(echo $$links | tr ' ' ',')" $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[dev]' -c requirements.lock
	touch $@

demo: $(READY)
	$(BIN)/python -m jobs.demo

test: $(READY)
	$(BIN)/python -m pytest -q --timeout=120 -m "not slow"

test-all: $(READY)
	$(BIN)/python -m pytest -q --timeout=600

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(READY)
	$(BIN)/python -m jobs.options > schemas/job.schema.json

# The newest versions that fit pyproject.toml and constraints.txt become the lock.
lock: $(READY)
	links="$${PIP_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)}"; \
	UV_FIND_LINKS="$$(echo $$links | tr ' ' ',')" $(BIN)/uv pip install -q --python $(BIN)/python -U -e '.[dev]' -c constraints.txt
	{ echo '# Exact versions of everything, as tested. Written by `make lock`; used as constraints by `make .venv`.'; \
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | grep -vE '^(pip|uv|fovea)==' | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	touch $(READY)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find jobs ray_pipeline schemas tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
