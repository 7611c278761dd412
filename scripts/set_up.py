"""Make a virtual environment with the best Python on this machine, and install the project into it.

    python3 scripts/set_up.py VENV [EXTRA]

The Makefile calls it from the project's folder. If $PYTHON is set, it is the Python that runs this
and that is used. Otherwise the newest on $PATH for which all packages have wheels is used. Nothing
is compiled. An environment that is there is kept.
"""

import glob
import os
import re
import signal
import subprocess
import sys

DIAGNOSIS = "d2l_deeprnn/_mxnet/diagnosis.py"
OLDEST = (3, 6)  # to run this
NEWEST = (3, 14)  # of a newer Python, some package has no wheel yet
PROGRESS = 20  # seconds between two lines that say that it goes on


def main(venv, extra=""):
    log = os.path.join(venv, "set-up.log")
    python = os.path.join(venv, "bin", "python")
    facts = diagnose(python)
    if facts:
        refuse(facts[1])
    else:
        version, base = choose()
        say("Making %s with Python %s (%s) ..." % (venv, "%d.%d" % version, base))
        done = run_quietly([base, "-m", "venv", "--clear", venv])
        if done.returncode:
            last = done.stdout.strip().split("\n")[-1]
            sys.exit("make: %s cannot make a virtual environment: %s" % (base, last))
    os.environ.pop("PYTHONHOME", None)
    os.environ.update(PYTHONWARNINGS="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1")
    os.environ["PIP_ONLY_BINARY"] = ":all:"
    words = "d2l_deeprnn%s into %s" % (" with its extra " + extra if extra else "", venv)
    say("Installing %s ..." % words)
    open(log, "w").close()
    if run_quietly([python, "-c", "import pip"]).returncode:  # venv was interrupted
        run([python, "-m", "ensurepip"], log)
    project = ".[%s]" % extra if extra else "."
    pip = ["-m", "pip", "install"]
    for words in [
        # The pip that comes with Python 3.8 to 3.10 can take an hour to choose versions.
        pip + ["--upgrade", "pip"],
        pip + ["--editable", project],
        # From Python 3.13 on it is not among the requirements; setup.py says why.
        pip + ["--no-deps", "mxnet==1.9.1"],
        [DIAGNOSIS, "--link"],
    ]:
        if run([python] + words, log):
            with open(log, errors="replace") as file:
                sys.exit("make: %s\nAll that pip said is in %s." % (reason(file.read()), log))


def choose():
    """Return the version and the path of the best Python; exit with what to do if there is none."""
    if os.environ.get("PYTHON"):
        found = [(diagnose(sys.executable, "--venv"), sys.executable)]
    else:
        names = ["python3.[0-9]", "python3.[0-9][0-9]", "python3", "python"]
        folders = os.environ["PATH"].split(os.pathsep)
        paths = [path for f in folders for n in names for path in glob.glob(os.path.join(f, n))]
        found = [(diagnose(path, "--venv"), path) for path in [*paths, sys.executable]]
    # The first of equal ones on the path counts.
    facts, path = max(
        [(facts, path) for facts, path in found if facts],
        key=lambda one: (not one[0][1], one[0][0] <= NEWEST, one[0][0]),
    )
    refuse(facts[1])
    if facts[0] > NEWEST:
        words = "make: not everything has been tried with Python %d.%d, or has wheels for it."
        say(words % facts[0])
    return facts[0], path


def diagnose(python, *options):
    """Return the version of a Python and what is wrong with it; None if it does not run."""
    try:
        done = run_quietly([python, DIAGNOSIS] + list(options))
    except OSError:
        return None
    version, _, problems = done.stdout.partition("\n")
    if done.returncode or not re.match(r"\d+\.\d+$", version):
        return None
    return tuple(map(int, version.split("."))), problems.strip()


def refuse(problems):
    if problems:
        sys.exit("make: " + problems.replace("\n", "\nmake: "))


def run_quietly(words):
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.run(
        words, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT, errors="replace"
    )


def run(words, log):
    """Run a command with its output in the log; print now and then that it goes on."""
    with open(log, "a") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        seconds = 0
        try:
            while True:
                try:
                    return process.wait(PROGRESS)
                except subprocess.TimeoutExpired:
                    seconds += PROGRESS
                    say("    installing, %s s so far" % seconds)
        finally:
            if process.poll() is None:
                process.terminate()


def reason(said):
    """Say in a sentence why pip failed."""
    broken = re.findall(r"connection broken by '(.*)': ", said)
    none = re.findall(r"No matching distribution found for ([\w.-]+)(\S*)", said)
    if broken:
        return "the package index cannot be reached: " + broken[-1]
    if none and none[-1][0] in ("setuptools", "numpy"):  # they are there for every Python
        words = "the package index cannot be reached: it lists no %s. If this network has a login"
        return words % none[-1][0] + "\npage, open any page in a browser and log in"
    if none:
        words = (
            "there is no wheel of %s%s for this Python. Name an older one, after make clean:\n%s"
        )
        return words % (none[-1] + ("make PYTHON=/path/to/python3.%d" % NEWEST[1],))
    errors = re.findall(r"^ *(?:ERROR|error):.*", said, re.MULTILINE)
    return "pip failed:\n" + "\n".join(errors[-3:])


def say(words):
    print(words)
    sys.stdout.flush()


def stop(number, frame):
    sys.exit(128 + number)


if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        sys.exit("make: %s is too old. Name another: make PYTHON=/path/to/python3" % sys.executable)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    main(*sys.argv[1:])
