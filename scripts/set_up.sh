#!/bin/sh
# Makes a virtual environment with the best Python that is here, and installs d2l_deeprnn into it.
#
#   sh scripts/set_up.sh VENV [EXTRA]
#
# The Makefile calls it, from the project's folder. $PYTHON names the Python to use. Otherwise it is
# the newest of 3.8 to 3.12 on $PATH; else a Python 3.12 that uv brings; else 3.13, for which NumPy
# has to be compiled. An environment that is there is kept, whatever made it.

venv=$1
extra=${2:-}
check=scripts/check_python.py
scratch=$venv-tmp # what is needed for a moment
log=$venv/set-up.log
ticker=

say() { printf 'make: %s\n' "$*"; }

die() {
    say "$@" >&2
    exit 1
}

clean_up() {
    [ -z "$ticker" ] || kill -KILL "$ticker" 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Sets verdict, version and lacks to what a Python says of itself. Fails if it does not run: some
# that are on the path, such as those of a version manager, only say that they are not there.
ask() {
    verdict=
    read -r verdict version lacks <<EOF
$("$1" "$check" 2>/dev/null </dev/null | sed -n 's/^facts: //p')
EOF
    [ -n "$verdict" ]
}

explain() {
    die "$("$1" "$check" --explain)"
}

# Runs a command with its output in the log, and says every 20 seconds that it is going on.
run() {
    (
        seconds=0
        # Nothing holds on to our output when we have ended, and nothing runs on for long.
        while sleep 20 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
            seconds=$((seconds + 20))
            printf '    %s, %s s so far\n' "$what" "$seconds"
        done
    ) &
    ticker=$!
    "$@" >>"$log" 2>&1 </dev/null
    status=$?
    # Any other signal is lost if it comes before a new subshell has put off our traps.
    kill -KILL "$ticker" 2>/dev/null
    wait "$ticker" 2>/dev/null
    ticker=
    return $status
}

# Sets python, or ends with what to do.
choose() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null 2>&1 ||
            die "there is no $PYTHON. Name a Python 3.8 to 3.13: make PYTHON=/path/to/python3.12"
        ask "$PYTHON" || die "$PYTHON does not run: $("$PYTHON" -c '' 2>&1 | tail -n 1)"
        case $verdict,$lacks in
        good,- | compile,-) python=$PYTHON ;;
        *) explain "$PYTHON" ;;
        esac
        return
    fi

    incomplete= compiles= unfit=
    for name in python3.12 python3.11 python3.10 python3.9 python3.8 python3 python3.13 python; do
        IFS=:
        for folder in $PATH; do
            unset IFS
            python=${folder:-.}/$name
            [ -f "$python" ] && [ -x "$python" ] && ask "$python" || continue
            case $verdict,$lacks in
            good,-) return ;;
            good,*) : "${incomplete:=$python}" ;;
            compile,*) : "${compiles:=$python}" ;;
            *) : "${unfit:=$python}" ;;
            esac
        done
        unset IFS
    done

    any=${incomplete:-${compiles:-$unfit}}
    if [ -n "$any" ]; then
        ask "$any"
        # No other Python would change this.
        case $verdict,$lacks in platform,* | *lib*) explain "$any" ;; esac
    fi
    if bring_python; then return; fi
    python=$compiles
    if [ -n "$incomplete" ]; then explain "$incomplete"; fi
    if [ -n "$compiles" ]; then
        ask "$compiles"
        [ "$lacks" = - ] || explain "$compiles"
        return
    fi
    if [ -n "$unfit" ]; then explain "$unfit"; fi
    die 'no Python was found.
Debian, Ubuntu: apt-get install python3-venv python3-dev g++ libquadmath0 libgomp1
Fedora: dnf install python3 python3-devel gcc-c++ libquadmath libgomp'
}

# Sets python to a Python 3.12 that uv brings, or fails. Where uv is not installed, it is taken from
# the package index for this one purpose, and its Python is kept beside the environment.
bring_python() {
    log=$scratch/log
    if uv --version >/dev/null 2>&1; then
        uv=uv
    else
        uv=$scratch/uv/bin/uv
        what='getting uv'
        if [ -z "$any" ]; then
            return 1
        elif ask "$any" && case ,$lacks, in *,venv,*) false ;; esac; then
            say "there is no Python 3.8 to 3.12 here. Getting uv, which can bring one ..."
            run "$any" -m venv "$scratch/uv" &&
                run "$scratch/uv/bin/python" -m pip install uv
        elif "$any" -m pip --version >/dev/null 2>&1; then
            say "there is no complete Python 3.8 to 3.12 here. Getting uv, which can bring one ..."
            run "$any" -m pip install --target "$scratch/uv" uv
        else
            return 1
        fi || {
            say 'uv could not be installed.'
            return 1
        }
        export UV_PYTHON_INSTALL_DIR="$PWD/$venv-python"
    fi
    say 'uv is bringing a Python 3.12 ...'
    what='uv is bringing a Python 3.12'
    # Nothing of it goes into a folder on the path.
    export UV_PYTHON_PREFERENCE=only-managed UV_PYTHON_INSTALL_BIN=0 UV_NO_PROGRESS=1
    run "$uv" python install 3.12 && python=$("$uv" python find --system 3.12 2>>"$log") ||
        {
            # uv makes its folder before it looks for what goes in.
            [ "$uv" = uv ] || rm -rf "$venv-python"
            say "uv could not bring one: $(sed -e 's/^ *//' -e 's/^[Cc]ause[a-z ]*: //' "$log" | tail -n 1)"
            return 1
        }
    ask "$python" || return 1
    case $verdict,$lacks in
    good,-) ;;
    *) explain "$python" ;;
    esac
}

pip_failed() {
    reason=$(sed -n "s/.*connection broken by '\(.*\)': .*/\1/p" "$log" | tail -n 1)
    if [ -n "$reason" ]; then
        die "the package index cannot be reached: $reason
All that pip said is in $log."
    fi
    die "pip failed. All that it said is in $log; at the end:
$(grep -E '^ *(ERROR|error):' "$log" | tail -n 3)"
}

mkdir -p "$scratch" 2>/dev/null ||
    die "the folder $PWD cannot be written to: copy the project to one that can"

if "$venv/bin/python" -c '' 2>/dev/null; then
    ask "$venv/bin/python" || die "$venv/bin/python does not run: make clean"
    case $verdict in version | platform) explain "$venv/bin/python" ;; esac
    case $lacks in *lib*) explain "$venv/bin/python" ;; esac
else
    choose
    log=$venv/set-up.log
    echo "Making $venv with Python $version ($python) ..."
    # A part of what venv says is meant for those who call it by hand.
    "$python" -m venv --clear "$venv" >"$scratch/venv" 2>&1 || {
        rm -rf "$venv"
        die "$python cannot make a virtual environment: $(tail -n 1 "$scratch/venv")"
    }
fi

python=$venv/bin/python
: >"$log"
unset PYTHONHOME
export PYTHONWARNINGS=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
"$python" -c 'import pip' 2>/dev/null || "$python" -m ensurepip >>"$log" 2>&1 || explain "$python"
what='installing'
if [ "$verdict" = compile ] && ! "$python" -c 'import numpy' 2>/dev/null &&
    ! "$python" -m pip cache list numpy 2>/dev/null | grep -q -- "-cp$(echo "$version" | tr -d .)-"; then
    case $lacks in *compiler* | *headers*) explain "$python" ;; esac
    say "$("$python" "$check" --explain)"
    what='installing, and compiling NumPy'
fi
echo "Installing d2l_deeprnn${extra:+ with its extra $extra} into $venv ..."
# The pip that comes with Python 3.8 to 3.10 can take an hour to choose versions.
run "$python" -m pip install --upgrade pip || pip_failed
run "$python" -m pip install --editable ".${extra:+[$extra]}" || pip_failed
