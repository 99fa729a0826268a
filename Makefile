# Each target sets up .venv when it is first used, and again when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
FLOOR := .venv-floor
DEVELOPMENT := $(VENV)/.development
INSTALL := -m pip install -qq --disable-pip-version-check --no-input
SHAPES := datasets/demo
CLASSES := ring moon heart triangle
DEMO := runs/demo
SIZE := 224
WEIGHTS := $(DEMO)/train/weights/best.pt
# The tests that depend most on the version of PyTorch: costs, conformance, weights, resuming.
SAMPLE := $(addprefix tests/,models/test_flops.py models/test_figures.py models/check models/weights utils/files/test_torch_file.py \
    test_resume.py utils/training/test_checkpoint.py utils/training/test_amp.py)

.PHONY: help demo test test-slow test-floor test-floor-sample faults faults-short lint bench clean

help:
	@echo "make demo       train a detector with attention on drawn shapes, validate it, run detection (4 to 7 minutes on 2 cores)"
	@echo "make test       run the test suite; make test-slow runs the slow tests"
	@echo "make test-floor run the test suite with the oldest versions that requirements.txt allows; make test-floor-sample runs a part of it"
	@echo "make faults     inject all faults (kills, damage, hostile files, ...) and count the outcomes; make faults-short runs a sample of each group"
	@echo "make lint       run ruff, mypy and the import contracts"
	@echo "make bench      measure the speed of loading, training, validation, NMS and start-up"
	@echo "make clean      remove everything that these targets created"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Attune needs Python 3.11 or newer; '$(PYTHON)' is missing or older. Choose another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.txt | $(BIN)/python
	@echo "installing requirements.txt into $(VENV) (a minute or more, once)"
	@$(BIN)/python $(INSTALL) -r requirements.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt requirements.txt | $(BIN)/python
	@echo "installing requirements-dev.txt into $(VENV) (a minute or more, once)"
	@$(BIN)/python $(INSTALL) -r requirements-dev.txt
	@touch $@

$(FLOOR)/.development: requirements-dev.txt requirements.txt
	@$(PYTHON) -m venv $(FLOOR)
	@echo "installing the oldest versions that requirements.txt allows into $(FLOOR) (some minutes, once)"
	@sed -nE 's/^([a-z-]+)>=([0-9.]+).*/\1==\2/p' requirements.txt > $(FLOOR)/oldest.txt
	@$(FLOOR)/bin/python $(INSTALL) -r requirements-dev.txt -c $(FLOOR)/oldest.txt
	@touch $@

demo: $(RUNTIME)
	@echo "draws a dataset, trains for 18 epochs, validates, runs detection: on 2 cores about 4 minutes with bf16 units, 7 without"
	@rm -rf $(DEMO)
	$(BIN)/python -m utils.data.shapes $(SHAPES) --classes $(CLASSES)
	$(BIN)/python train.py --weights '' --cfg yolov5n-ca.yaml --data $(SHAPES)/data.yaml --hyp hyp.demo.yaml --optimizer Adam \
	    --imgsz $(SIZE) --epochs 18 --batch-size 16 --project $(DEMO) --name train
	$(BIN)/python val.py --weights $(WEIGHTS) --data $(SHAPES)/data.yaml --imgsz $(SIZE) --project $(DEMO) --name val
	$(BIN)/python detect.py --weights $(WEIGHTS) --source $(SHAPES)/images/val --imgsz $(SIZE) --line-thickness 2 --project $(DEMO) --name images
	$(BIN)/python detect.py --weights $(WEIGHTS) --source $(SHAPES)/clip.mp4 --imgsz $(SIZE) --line-thickness 2 --project $(DEMO) --name clip
	@echo
	@echo "images with boxes     $(DEMO)/images/"
	@echo "clip with boxes       $(DEMO)/clip/clip.mp4"
	@echo "metrics and curves    $(DEMO)/val/ (metrics.json), $(DEMO)/train/ (results.csv, results.png)"
	@echo "weights               $(WEIGHTS)"

test: $(DEVELOPMENT)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(DEVELOPMENT)
	@$(BIN)/python -m pytest -m slow

test-floor: $(FLOOR)/.development
	@$(FLOOR)/bin/python -m pytest -n 2 --dist worksteal

test-floor-sample: $(FLOOR)/.development
	@$(FLOOR)/bin/python -m pytest -n 2 --dist worksteal $(SAMPLE)

faults: $(DEVELOPMENT)
	@$(BIN)/python -m tests.faults

faults-short: $(DEVELOPMENT)
	@$(BIN)/python -m tests.faults --short 2>/dev/null

lint: $(DEVELOPMENT)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(RUNTIME)
	@for script in $$(grep -l __main__ benchmarks/*.py); do \
	    name=$$(basename $$script .py); \
	    echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; \
	done

clean:
	rm -rf $(VENV) $(FLOOR) $(DEMO) $(SHAPES) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
