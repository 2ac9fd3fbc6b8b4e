# SPDX-License-Identifier: Apache-2.0
# Recipes for development; `just` lists them. Continuous integration runs the same: .ci/run

export PYTHONPATH := "src"
python := env("PYTHON", ".venv/bin/python")

_default:
    @just --list

# a virtual environment with everything, and the native core built in place
setup:
    python3 -m venv .venv
    {{python}} -m pip install -q -e '.[test]'
    {{python}} setup.py -q build_ext --inplace

# style, formatting, layers
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    .venv/bin/lint-imports

# put right what can be put right by itself
format:
    {{python}} -m ruff check --fix .
    {{python}} -m ruff format .

# types
type:
    {{python}} -m mypy

# tests, all or what is asked for: just test tests/unit -k drain
test *what:
    {{python}} -m pytest {{what}}

# all tests, two files at a time, as continuous integration has it
test-all:
    {{python}} -m pytest -n 2 --dist loadfile

# the contract suite over every channel
contract:
    {{python}} -m pytest tests/contract

# fuzz every target with atheris, so many seconds each
fuzz seconds="60":
    for name in $({{python}} -c "import sys; sys.path.insert(0, 'tests/fuzz'); import targets; print(*targets.TARGETS)"); do \
        {{python}} tests/fuzz/fuzz.py $name -max_total_time={{seconds}} || exit 1; done

# real kills; the soak under load for as many seconds: just chaos 600, an hour: just chaos 3600
chaos seconds="20":
    CUBBYHOLE_SOAK_S={{seconds}} {{python}} -m pytest tests/chaos

# many requests made up from the servers' own OpenAPI documents, another seed each time
fuzz-http examples="300":
    CUBBYHOLE_HTTP_EXAMPLES={{examples}} CUBBYHOLE_HTTP_SEED=$(date +%s) {{python}} -m pytest tests/chaos/test_schemas.py

# rebuild the native core in place; CUBBYHOLE_SANITIZE=address,undefined just native
native:
    {{python}} setup.py -q build_ext --inplace --force

# benchmarks: scenarios, baselines, one run
bench *what:
    {{python}} -m bench {{what}}

# the documentation's pictures: of the inspector by a real browser, and of `cubbyhole top`
pictures *what:
    {{python}} -m tests.pictures.inspector {{what}}
    {{python}} -m tests.pictures.top {{what}}

# everything, as continuous integration has it
ci:
    .ci/run
