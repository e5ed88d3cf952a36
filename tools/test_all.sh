#!/usr/bin/env bash
# The tests on every Python version named that is installed, each in a .venv of its own.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0
for version in "$@"; do
    python=""
    for candidate in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "Python $version: not installed, not tested"
        continue
    fi
    echo "Python $version: $("$python" --version)"
    venv=.venv-$version
    if ! { [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"; } ||
        ! "$venv/bin/python" -m pip install --disable-pip-version-check --quiet -e '.[dev]' ||
        ! KOBS_THOROUGH="${KOBS_THOROUGH:-5}" "$venv/bin/python" -m pytest -n 2 -q -m "not e2e"; then
        echo "Python $version: FAILED"
        failed=1
    fi
done
exit $failed
