#!/usr/bin/env bash
# From a fresh machine with Python 3.11 and pip to a fine-tuned BERT: makes .venv, installs bertjax, fine-tunes.
# Flags are passed on: bash scripts/quickstart.sh --epochs 1
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
install
exec .venv/bin/bertjax finetune "$@"
