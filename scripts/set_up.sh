#!/bin/sh
# Runs set_up.py, which makes a virtual environment, with $PYTHON, or else with any Python.

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 6))' </dev/null; }

if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null 2>&1 ||
        { echo "make: there is no $PYTHON. Name a Python: make PYTHON=/path/to/python3" >&2; exit 1; }
    reason=$(fits "$PYTHON" 2>&1) ||
        { echo "make: $PYTHON does not run, or is too old. $reason" >&2; exit 1; }
    exec "$PYTHON" scripts/set_up.py "$@"
fi
IFS=:
for folder in $PATH; do
    for python in "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9] "$folder"/python; do
        fits "$python" >/dev/null 2>&1 && exec "$python" scripts/set_up.py "$@"
    done
done
echo 'make: no Python 3.8 or later was found.
Debian, Ubuntu: apt-get install python3-venv libquadmath0 libgomp1
Fedora: dnf install python3 libquadmath libgomp' >&2
exit 1
