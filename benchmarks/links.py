"""How long do two machines take to sum gradients over a slow link? How fast would N machines be?

Two network namespaces of this machine serve as hosts, with a slowed-down link between them and one
process with one thread on each. These times and those of minibatches in ``results/ranks.csv``
predict how much faster N machines would be. Writes ``results/ranks_links.csv`` and
``results/ranks_model.csv``, each with ``.json``, and ``results/ranks_model.svg``.

    python benchmarks/links.py

Needs the extra ``mpi``, Linux, and root to create the namespaces, which are removed at the end.
During the run, their names are in ``/etc/hosts``.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ranks import MILLIONS, MPIEXEC
from turns import RESULTS, in_a_process, parser, write

from d2l_deeprnn.evidence.figures import Line, lines_figure, save_figure
from d2l_deeprnn.evidence.records import column, read_rows, select

HOSTS = {"d2l-first": "10.213.0.1", "d2l-second": "10.213.0.2"}
GIGABITS = (1, 10)
NETWORKS = {0.85: 256, 13: 1024}  # million parameters -> hidden units
MOST = 256  # largest number of machines, and rows of all machines together
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
RANKS = str(Path(__file__).parent / "ranks.py")
# Runs a command in a namespace, like `ssh HOST COMMAND` on a host
SHELL = """\
#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1
shift
exec ip netns exec "$host" sh -c "$*"
"""


def run(*words):
    subprocess.run(words, check=True)


@contextlib.contextmanager
def two_hosts():
    """Create two hosts; yield the ends of their link, and a command that starts processes there."""
    hosts = Path("/etc/hosts")
    before = hosts.read_text()
    links = list(zip(HOSTS, ("d2l0", "d2l1")))
    with tempfile.TemporaryDirectory() as directory:
        shell = Path(directory) / "shell"
        shell.write_text(SHELL)
        shell.chmod(0o755)
        try:
            for host in HOSTS:
                run("ip", "netns", "add", host)
            (first, one), (second, other) = links
            peer = ("type", "veth", "peer", "name", other, "netns", second)
            run("ip", "link", "add", one, "netns", first, *peer)
            for host, link in links:
                run("ip", "-n", host, "addr", "add", f"{HOSTS[host]}/24", "dev", link)
                for name in ("lo", link):
                    run("ip", "-n", host, "link", "set", name, "up")
            lines = [f"{address} {host}\n" for host, address in HOSTS.items()]
            hosts.write_text(before + "".join(lines))
            launcher = ["-launcher", "rsh", "-launcher-exec", str(shell), "-hosts", ",".join(HOSTS)]
            # TCP, since the processes would otherwise use shared memory.
            launcher += ["-genv", "UCX_TLS", "tcp,self", "-n", "2"]
            yield links, ("ip", "netns", "exec", first, MPIEXEC, *launcher)
        finally:
            hosts.write_text(before)
            for host in HOSTS:
                subprocess.run(["ip", "netns", "del", host], check=False)


def slow_down(links, gigabits):
    for host, link in links:
        limit = ("tbf", "rate", f"{gigabits}gbit", "burst", "1mb", "latency", "50ms")
        run("tc", "-n", host, "qdisc", "replace", "dev", link, "root", *limit)


def measure(rounds):
    """Time sums of gradients and, for some networks, minibatches of 32 rows, 16 on each host."""
    work = [("sum", millions) for millions in MILLIONS]
    work += [("minibatch", millions) for millions in NETWORKS]
    rows = []
    with two_hosts() as (links, launcher):
        for round_ in range(rounds):
            for gigabits in GIGABITS:
                slow_down(links, gigabits)
                for what, millions in work:
                    function, arguments = "seconds_to_sum", (millions,)
                    if what == "minibatch":
                        function, arguments = "seconds", (NETWORKS[millions], 32, 0, 8)
                    took = in_a_process(
                        RANKS, function, *arguments, variables=ONE_THREAD, launcher=launcher
                    )
                    row = {"round": round_, "gigabits": gigabits, "what": what}
                    row["million_parameters"] = millions
                    rows.append({**row, "milliseconds": round(1000 * took, 3)})
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return rows


def model(links, alone):
    """Predict how many times as fast N machines of one thread are as one machine.

    The time of a minibatch has a fixed part and a part in proportion to its rows, which follow from
    the times of one thread for 16 and 32 rows. A sum over N machines sends each gradient
    2 (N - 1) / N times, so it takes at most twice as long as with two machines. The model leaves
    out the latency of the link and waiting for the slowest machine.

    Args:
        links: rows of ``measure``.
        alone: rows of ``results/ranks.csv``.
    """
    rows = []
    for millions, num_hiddens in NETWORKS.items():
        half, whole = (
            _median(alone, num_hiddens=num_hiddens, batch_size=n, threads=1, ranks=1)
            for n in (16, 32)
        )
        each = max(0.0, (whole - half) / 16)
        base = whole - 32 * each
        for gigabits in GIGABITS:
            where = {"gigabits": gigabits, "million_parameters": millions}
            two = _median(links, what="sum", **where)
            for machines in (2**power for power in range(MOST.bit_length())):
                to_sum = two * 2 * (machines - 1) / machines
                of_all = base + each * MOST
                row = {
                    "num_hiddens": num_hiddens,
                    "gigabits": gigabits,
                    "machines": machines,
                    "rows_of_each_fixed": round(machines * whole / (whole + to_sum), 3),
                    "rows_of_all_fixed": round(
                        of_all / (base + each * MOST / machines + to_sum), 3
                    ),
                }
                if machines == 2:  # this was also measured, with 16 rows on each
                    row["predicted_milliseconds"] = round(half + two, 3)
                    row["measured_milliseconds"] = _median(links, what="minibatch", **where)
                rows.append(row)
    return rows


def figure(rows):
    """Plot rows that were computed or read from ``ranks_model.csv``."""
    titles = {
        "rows_of_each_fixed": "32 rows on each machine",
        "rows_of_all_fixed": f"{MOST} rows on all machines",
    }
    panels = {}
    for name, title in titles.items():
        lines = panels.setdefault(title, {})
        for num_hiddens in NETWORKS.values():
            for gigabits in GIGABITS:
                some = select(rows, num_hiddens=num_hiddens, gigabits=gigabits)
                label = f"{num_hiddens} hidden units, {gigabits} Gbit/s"
                lines[label] = Line([r["machines"] for r in some], [r[name] for r in some])
    title = (
        "Computed, not measured: more machines do more work in the same time, but the same work is "
        "limited by the link"
    )
    ylabel = "times as fast as one machine"
    return lines_figure(panels, "machines", ylabel, log_x=True, log_y=True, title=title)


def _median(rows, **where):
    return statistics.median(column(select(rows, **where), "milliseconds"))


def main():
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    arguments = options.parse_args()
    alone = read_rows(RESULTS / "ranks.csv")
    links = measure(arguments.rounds)
    rows = model(links, alone)
    write(arguments, links, name="ranks_links", packages=["mpi4py"], settings={"machines": 2})
    write(arguments, rows, name="ranks_model", settings={"most_machines": MOST})
    save_figure(figure(rows), arguments.out / "ranks_model.svg")


if __name__ == "__main__":
    main()
