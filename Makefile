# Thin: each target is one or two commands. `make demo` and `make test` need only Python >= 3.11, git and make.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: env announce demo test test-slow coverage faults lint audit bench docs leaderboard wheel lock

# uv installs in a minute what takes pip four; where it cannot (it does not read pip's configuration), pip does
env: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 15) else "spheremap needs Python 3.11 to 3.14, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.txt > .venv/uv.txt
	.venv/bin/python -m pip install --quiet --require-hashes --requirement .venv/uv.txt
	.venv/bin/uv pip install --quiet --compile-bytecode --require-hashes --requirement requirements.txt --python .venv/bin/python \
		|| .venv/bin/python -m pip install --quiet --require-hashes --requirement requirements.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

announce:
	@echo 'The demonstration: 1,920 drawn pictures, DINOv2 features, training, evaluation, a report.'
	@echo '  time   6 to 12 minutes on two cores of a recent server, without a GPU; a killed run goes on where it stopped'
	@echo '  disk   8 GB here: 7 for .venv (once), 1 for data and models; on the way 90 MB of DINOv2 weights are fetched'
	@test -d .venv || command -v nvidia-smi > /dev/null || \
		echo '  No GPU was found: 4 of the 7 GB are CUDA libraries that stay unused. docs/install.md says how to do without.'

# the embedded data set from pictures to metrics; DVC records the run
demo: announce env
	snakemake --cores all
	spheremap table results/metrics.json
	@if git rev-parse --git-dir > /dev/null 2>&1; then dvc commit --force --quiet; \
		else echo 'Not recorded by DVC: this folder is no Git repository.'; fi
	@echo
	@echo 'Next:'
	@echo '  results/report.html                    open it in a browser: scores, spheres, an explorer of matches'
	@echo '  source .venv/bin/activate'
	@echo '  spheremap bundle --out demo.spheremap  then: spheremap explore a.jpg b.jpg --model demo.spheremap'
	@echo '  spheremap preset                       other settings; docs/quick-start.md goes on from here'

# threads that wait for each other leave the processor to other tests: with two workers on two cores 4 times as fast
test test-slow coverage faults: export OMP_WAIT_POLICY = PASSIVE

test: env
	pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

# what `make test` leaves out; one process more than there are cores, since these tests often wait
test-slow: env
	pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder -m slow

# what all tests together run of the code, commands and workflow included; lists the lines left out
coverage: env
	pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered

# kills and harms a tiny project in every way, 25 kills of each command; counts at the end
faults: env
	FAULT_REPEATS=25 pytest -n auto tests/faults

lint: env
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakefmt --check workflow
	snakemake --lint

# known vulnerabilities of the pinned dependencies; says so where their data base cannot be reached
audit: env
	python .ci/audit

# ratios and floors on this hardware, as CSV under benchmarks/results and as a table
bench: env
	python benchmarks/run.py

# the pages that are written from the code, the pictures, and all pages as a site under site/
docs: env
	python docs/reference.py
	python docs/parameters.py
	python docs/figures.py
	python leaderboard/pages.py
	test ! -f results/report.html || python docs/screenshots.py results/report.html docs/screenshots
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

# every method on the data sets that lie here, into leaderboard/BENCHMARK.csv: an hour or more
leaderboard: env
	python leaderboard/run.py

# wheel and sdist under dist/, as `python -m build` makes them
wheel: env
	python -m hatchling build --clean

# writes the pins that `make env` installs
lock: env
	uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-emit-index-url --all-extras \
		--custom-compile-command "make lock" --output-file requirements.txt pyproject.toml
