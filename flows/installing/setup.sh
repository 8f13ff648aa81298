#!/usr/bin/env bash
# Finds a Python that this project runs under and hands on to `python -m flows.setup`: that of PYTHON=, else that of a
# complete .venv, else the first that fits on PATH. Programs that only promise a version (pyenv's shims) are tried out.
set -u
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    names=("$PYTHON")
else
    names=(python3.11 python3.12 python3.13 python3 python)
    [ -e .venv/.installed ] && names=(.venv/bin/python "${names[@]}")
fi
seen=()
for name in "${names[@]}"; do
    fits "$name" && exec "$name" -B -m flows.setup "$@"
    version=$("$name" --version 2>&1 | grep -o '^Python [0-9.]*') && seen+=("$version ($name)")
done
if [ ${#seen[@]} -eq 0 ]; then seen=("no Python (${names[*]})"); fi
echo "setup: found $(IFS=';'; echo "${seen[*]}"); expected Python 3.11, 3.12 or 3.13; do: install one (Debian, Ubuntu:" \
    "apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.11"
exit 2
