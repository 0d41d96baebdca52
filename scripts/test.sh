#!/usr/bin/env bash
# Every check and every test, on two cores: makes .venv, installs bertjax with its development tools, runs the fast ones
# first. Arguments go to pytest: bash scripts/test.sh -k packing, or -n 0 --pdb for one process.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
install dev
export PATH="$PWD/.venv/bin:$PATH"
if [ $# -eq 0 ]; then
  python -m pip check
  ruff check .
  ruff format --check .
  mypy
  lint-imports
  zensical build --strict
fi
if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null \
  || ! command -v chromedriver > /dev/null; then
  echo "no Chromium or Chrome with its chromedriver is found: the tests in a browser are skipped"
fi
# A file's tests share their fixtures; the order is that of tests/conftest.py, in which long files leave no core idle.
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
