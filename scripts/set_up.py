"""Create a virtual environment with the best Python on this machine, and install the project there.

    python3 scripts/set_up.py VENV [EXTRA]

The Makefile calls this script from the project's directory. If $PYTHON is set, that Python runs the
script and is used. Otherwise it uses the newest Python on $PATH for which all packages have wheels.
Nothing is compiled, and an existing environment is kept.
"""

import glob
import os
import re
import signal
import subprocess
import sys

DIAGNOSIS = "d2l_deeprnn/_mxnet/diagnosis.py"
OLDEST = (3, 6)  # oldest Python that can run this script
NEWEST = (3, 14)  # newest Python for which all packages have wheels
PROGRESS = 20  # seconds between two lines of progress


def main(venv, extra=""):
    log = os.path.join(venv, "set-up.log")
    python = os.path.join(venv, "bin", "python")
    result = diagnose(python)
    if result and not capture([python, "-c", "import pip"]).returncode:
        exit_if(result[1])
    else:  # there is no environment, or its creation was interrupted
        version, base = choose()
        print("Creating %s with Python %s (%s) ..." % (venv, "%d.%d" % version, base), flush=True)
        done = capture([base, "-m", "venv", "--clear", venv])
        if done.returncode:
            last = done.stdout.strip().split("\n")[-1]
            sys.exit("make: %s cannot create a virtual environment: %s" % (base, last))
    os.environ.pop("PYTHONHOME", None)
    os.environ.update(PYTHONWARNINGS="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1")
    os.environ["PIP_ONLY_BINARY"] = ":all:"
    with_extra = " with its extra " + extra if extra else ""
    print("Installing d2l_deeprnn%s into %s (only once) ..." % (with_extra, venv), flush=True)
    open(log, "w").close()
    pip = ["-m", "pip", "install"]
    for arguments in [
        # The pip that comes with Python 3.8 to 3.10 can take an hour to choose versions.
        pip + ["--upgrade", "pip"],
        pip + ["--editable", ".[%s]" % extra if extra else "."],
        # For Python 3.13 and later, it is not among the requirements; setup.py explains why.
        pip + ["--no-deps", "mxnet==1.9.1"],
        [DIAGNOSIS, "--link"],
    ]:
        if run([python] + arguments, log):
            with open(log, errors="replace") as file:
                sys.exit("make: %s\npip's full output is in %s." % (reason(file.read()), log))


def choose():
    """Return the version and the path of the best Python; exit if there is none."""
    paths = [sys.executable]
    if not os.environ.get("PYTHON"):
        names = ["python3.[0-9]", "python3.[0-9][0-9]", "python3", "python"]
        folders = os.environ["PATH"].split(os.pathsep)
        paths = [path for f in folders for n in names for path in glob.glob(os.path.join(f, n))]
        paths.append(sys.executable)
    results = [(diagnose(path, "--venv"), path) for path in paths]
    # The best one has no problems, has wheels and is the newest; of equal ones, the first is taken.
    (version, problems), path = max(
        [(result, path) for result, path in results if result],
        key=lambda one: (not one[0][1], one[0][0] <= NEWEST, one[0][0]),
    )
    exit_if(problems)
    if version > NEWEST:
        print("make: some packages may not support Python %d.%d yet." % version, flush=True)
    return version, path


def diagnose(python, *options):
    """Return the version of a Python and its problems, or None if it does not run."""
    try:
        done = capture([python, DIAGNOSIS] + list(options))
    except OSError:
        return None
    version, _, problems = done.stdout.partition("\n")
    if done.returncode or not re.match(r"\d+\.\d+$", version):
        return None
    return tuple(map(int, version.split("."))), problems.strip()


def exit_if(problems):
    if problems:
        sys.exit("make: " + problems.replace("\n", "\nmake: "))


def capture(command):
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.run(
        command, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT, errors="replace"
    )


def run(command, log):
    """Run a command with its output in the log, and show that it is still running."""
    with open(log, "a") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        seconds = 0
        try:
            while True:
                try:
                    return process.wait(PROGRESS)
                except subprocess.TimeoutExpired:
                    seconds += PROGRESS
                    print("    installing, %s s so far" % seconds, flush=True)
        finally:
            if process.poll() is None:
                process.terminate()


def reason(output):
    """Return a sentence that explains why pip failed."""
    unavailable = re.findall(r"No matching distribution found for (\S+)", output)
    if unavailable:
        return (
            "pip found no wheel of %s for this Python. Check the network, which may have a login\n"
            "page; or run make clean and choose an older Python: make PYTHON=/path/to/python3.%d"
        ) % (unavailable[-1], NEWEST[1])
    errors = re.findall(r"^ *(?:ERROR|error):.*", output, re.MULTILINE)
    return "pip failed:\n" + "\n".join(errors[-3:])


def stop(number, frame):
    sys.exit(128 + number)


if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        sys.exit(
            "make: %s is too old. Choose another: make PYTHON=/path/to/python3" % sys.executable
        )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    main(*sys.argv[1:])
