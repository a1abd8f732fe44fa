.PHONY: check lint format test slow

check: lint test

lint:
	ruff format --check .
	ruff check .
	pyright
	lint-imports

format:
	ruff format .
	ruff check --fix .

test:
	pytest

slow:
	pytest -m slow
