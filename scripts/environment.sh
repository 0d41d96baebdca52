# Sourced by the other scripts: makes .venv and installs bertjax into it from this checkout, once for each change of
# its requirements.

install() { # install [EXTRA]: the package, or the package with an extra
  local extra="${1:-}" python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "bertjax needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Set PYTHON to another one." >&2
    return 1
  }
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  local stamp=".venv/installed-${extra:-core}" wanted
  wanted="$(cat setup.cfg pyproject.toml constraints.txt | cksum) $PWD"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
  echo "installing bertjax${extra:+[$extra]} into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable ".${extra:+[$extra]}" --constraint constraints.txt
  echo "$wanted" >"$stamp"
}
