# Nothing is needed but Python 3.11 and a package index that pip can reach. Everything lives in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := .venv/.installed
BROWSER := .venv/.browser

.DEFAULT_GOAL := help
.PHONY: help run drill test check bench soak lock pictures

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

drill: $(INSTALLED) ## Play an incident from alert to postmortem in virtual time; the report goes to out/drill/
	@$(BIN)/firedoor drill --out out/drill

run: $(INSTALLED) ## Serve a sandbox: simulated systems, and a workspace in your browser in place of Slack
	@$(BIN)/firedoor serve --sandbox

test: $(INSTALLED) $(BROWSER) ## Lint, format, types, tests. FIREDOOR_SEED=N repeats a run
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not soak'

check: $(INSTALLED) ## Check the shipped configuration as an operator's CI would
	@$(BIN)/firedoor check --config bot/config/example

bench: $(INSTALLED) ## Measure: ours and the floor, in one run
	@$(BIN)/python -m bench

soak: $(INSTALLED) $(BROWSER) ## Every test, and with them each crash point and the long random runs
	$(BIN)/python -m pytest -o timeout=3600

pictures: $(INSTALLED) $(BROWSER) ## Take the README's pictures anew, from the story in the browser
	$(BIN)/python -m pytest -q tests/stories/test_browser.py
	@mkdir -p docs/pictures && cp out/pictures/*.png docs/pictures/

lock: $(INSTALLED) ## Choose the versions in requirements.txt anew, from pyproject.toml
	$(PIP) install --quiet pip-tools==7.6.2
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --extra test --all-build-deps --allow-unsafe \
		--strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements.txt pyproject.toml

# The stamp is the last thing written: an installation that broke off starts over.
$(INSTALLED): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install Python 3.11, or say make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): Python 3.11 is needed, say make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --only-binary :all: --require-hashes -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The story in the browser needs one; the tests install nothing else outside .venv.
$(BROWSER): $(INSTALLED)
	@command -v chromium >/dev/null || { sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); $$sudo apt-get update && $$sudo apt-get install -y chromium; } \
		|| { echo "there is no chromium, and apt-get could not install it: install it, then make again" >&2; exit 1; }
	@touch $@
