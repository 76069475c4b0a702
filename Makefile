# The five commands of a working day. Each one is a short form of a script that also works alone.

.PHONY: install check test demo bench

install:  ## make .venv and install kwela with what the checks and tests need
	scripts/install.sh dev

check: install  ## style, types and import rules, in about a minute
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

test:  ## the default test suite; one file: make test ARGS="tests/music/test_tokens.py -k drums"
	scripts/test.sh $(ARGS)

demo:  ## the whole V2 pipeline on real pieces, about ten minutes
	scripts/train_cuda_v2.sh --demo

bench:  ## each speed figure beside a peer's, in one run
	.venv/bin/python benchmarks/run.py $(ARGS)
