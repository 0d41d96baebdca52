#!/usr/bin/env bash
# Every check and every test: makes .venv, installs bertjax with its development tools, runs the fast ones first.
# Arguments go to pytest: bash scripts/test.sh -k packing
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
fi
exec python -m pytest "$@"
