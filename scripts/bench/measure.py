"""Measures the echo servers that bench.sh has built, side by side, and writes
results.json and the reports. Linux only, standard library only.

Every figure comes from a server that was started for it. A server runs on one
core, the load on another; rounds are interleaved (A B C, B C A, ...), so that
what disturbs the machine for a while disturbs all servers alike.
"""

import argparse
import ctypes
import dataclasses
import datetime
import json
import mmap
import os
import pathlib
import platform
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = HERE / "target"
OURS = ROOT / "target/release"
LOAD = OURS / "echo-bench"

# For the servers with TLS; `openssl` writes them.
CERT, KEY = BUILT / "cert.pem", BUILT / "key.pem"
TLS_LOAD = ("--tls", "--tls-ca", CERT, "--tls-name", "localhost")

PATIENCE = 60.0  # seconds for anything that should take one
SCHEMA = 1


# --- what is measured ---------------------------------------------------------


@dataclasses.dataclass
class Server:
    name: str
    about: str
    argv: list  # the port is to be added
    needs: pathlib.Path
    binary: bool = True  # one file that is ours to strip and to preload
    crate: str = ""  # whose tree of dependencies is counted
    family: str = ""  # the server that it is a form of
    only: tuple = ()  # the scenarios that it is for; else all but THREADS
    also: tuple = ()
    flag: str = ""  # which its --help must know
    load: tuple = ()  # further options of echo-bench
    tool: str = ""  # a program that starts it


def rust(name, about, crate, options=(), **more):
    path = BUILT / "release" / f"{name.replace('-', '_')}_echo"
    return Server(name, about, [path, *options], path, crate=crate, **more)


def c(name, about, options=(), **more):
    path = BUILT / name.replace("-", "_")
    return Server(name, about, [path, *options], path, **more)


def python(name, about, interpreter):
    path = HERE / f"{name}_echo.py"
    return Server(name, about, [interpreter, path], pathlib.Path(interpreter), binary=False)


def ours(name, about, *options, **more):
    path = OURS / "echo-server"
    argv = [path, "-q", *options, "--port"]
    return Server(name, about, argv, path, crate="reactor", family="reactor", **more)


def batch(server):
    """It, scheduled as a batch job: it does not interrupt what runs (sched(7))."""
    return dataclasses.replace(
        server, name=f"{server.name}-batch", about="the same, under chrt --batch 0",
        argv=["chrt", "--batch", "0", *server.argv], family=server.family or server.name,
        only=THREADS, also=(), tool="chrt",
    )  # fmt: skip


def servers(interpreter):
    two = ours("reactor-2", "the same, --threads 2", "--threads", "2",
               only=THREADS, flag="--threads")  # fmt: skip
    tokio_two = rust("tokio-multi", "Rust, tokio, two threads", "tokio", only=THREADS)
    return [
        ours("reactor", "our echo-server", also=THREADS),
        ours("reactor-busy", "the same, --busy-poll 100us", "--busy-poll", "100us",
             only=("c1", "churn", "idle"), flag="--busy-poll"),
        ours("reactor-deadlines", "the same, --idle-timeout 10m", "--idle-timeout", "10m",
             only=("memory",), flag="--idle-timeout"),
        two,
        batch(two),
        c("epoll", "C by hand on epoll, level-triggered"),
        # The same program: how far its figures differ from epoll's is what noise does.
        dataclasses.replace(c("epoll", "epoll again, to show the noise"), name="control"),
        rust("mio", "Rust, mio, edge-triggered", "mio"),
        rust("tokio", "Rust, tokio, one thread", "tokio", also=THREADS),
        rust("smol", "Rust, smol, one thread", "smol"),
        rust("calloop", "Rust, calloop, level-triggered", "calloop"),
        rust("polling-oneshot", "Rust, polling, one-shot", "polling"),
        c("uv", "C, libuv"),
        python("asyncore", "Python, asyncore on poll(2)", interpreter),
        python("asyncio", "Python, asyncio, BufferedProtocol", interpreter),
        python("uvloop", "Python, uvloop, BufferedProtocol", BUILT / "venv/bin/python"),
        tokio_two,
        batch(tokio_two),
        ours("reactor-tls", "our echo-server with TLS", "--tls-cert", CERT, "--tls-key", KEY,
             only=TLS, flag="--tls-cert", load=TLS_LOAD),
        rust("tokio-tls", "Rust, tokio-rustls, one thread", "tokio-rustls", options=(CERT, KEY),
             only=TLS, load=TLS_LOAD),
        c("openssl-tls", "C by hand on epoll and OpenSSL", options=(CERT, KEY),
          only=TLS, load=TLS_LOAD),
    ]  # fmt: skip


@dataclasses.dataclass
class Scenario:
    about: str
    connections: int
    size: int = 64
    options: tuple = ()
    idle: int = 0
    churn: bool = False
    threads: int = 1  # of the load
    apart: bool = True  # server and load on a core each, not both on both

    def load(self):
        args = ["--connections", self.connections, "--size", self.size, "--idle", self.idle,
                "--threads", self.threads]  # fmt: skip
        return [*args, *self.options, *(["--churn"] if self.churn else [])]


SCENARIOS = {
    "c1": Scenario("1 connection, messages of 64 bytes", 1),
    "c64": Scenario("64 connections, messages of 64 bytes", 64),
    "c1000": Scenario("1,000 connections, messages of 64 bytes", 1000),
    "p16": Scenario("64 connections, 16 messages of 64 bytes in flight on each", 64,
                    options=("--pipeline", "16")),
    "big": Scenario("16 connections, messages of 64 KiB", 16, size=65536),
    "churn": Scenario("64 at a time, a new connection for each message of 64 bytes", 64,
                      churn=True),
    "idle10k": Scenario("64 connections, messages of 64 bytes, beside 10,000 idle ones", 64,
                        idle=10_000),
    "threads": Scenario("64 connections, messages of 64 bytes; server and a load of two threads "
                        "both on the same two cores", 64, threads=2, apart=False),
    "threads1": Scenario("the same with a load of one thread, which is what keeps all waiting",
                         64, apart=False),
    "tls64": Scenario("TLS 1.3, 64 connections, messages of 64 bytes", 64),
    "tlsbig": Scenario("TLS 1.3, 16 connections, messages of 64 KiB", 16, size=65536),
    "tlschurn": Scenario("TLS 1.3, 64 at a time, a new connection, which resumes a session, for "
                         "each message of 64 bytes", 64, churn=True),
    "tlsfull": Scenario("TLS 1.3, 64 at a time, a new connection with a full handshake for each "
                        "message of 64 bytes", 64, churn=True, options=("--no-resumption",)),
}  # fmt: skip
# In these a server may use both cores, and the load too: with two threads of
# load the server is what they wait for, with one it is the load.
THREADS = tuple(name for name, scenario in SCENARIOS.items() if not scenario.apart)
# Only for servers with TLS, which take part in no other.
TLS = (*(name for name in SCENARIOS if name.startswith("tls")), "tlsmemory")
# Measured in the same rounds, as the one is compared with the other.
TOGETHER = ("c64", "idle10k")
# What is measured otherwise.
OTHERS = ("memory", "tlsmemory", "idle", "build")
IDLE = (0, 1000, 5000, 10_000)


# --- processes ----------------------------------------------------------------


class Crashed(Exception):
    """The server is gone, or never came."""


class Missed(Exception):
    """The samples were not taken while the load was at its height, or it had none."""


class Wrong(Exception):
    """The server is there, and echo-bench says no."""


children = []
libc = ctypes.CDLL(None)


def start(argv, cores, **options):
    """Starts a process that ends with this one, in a group of its own."""

    def child():
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.sched_setaffinity(0, cores)

    process = subprocess.Popen(
        [str(arg) for arg in argv], stdin=subprocess.DEVNULL, preexec_fn=child,
        start_new_session=True, **options
    )  # fmt: skip
    children.append(process)
    return process


def end(process):
    """Kills what `start` started, and waits until it is gone."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    if process in children:
        children.remove(process)


def end_all():
    for process in list(children):
        end(process)


def await_height(load, scenario):
    """Waits until echo-bench has opened all its connections, some of which the
    server may not have accepted yet: then its warm-up begins."""
    if scenario.churn:
        time.sleep(0.1)
        return
    # With what it has open besides: of its own, and for each reactor.
    count = scenario.connections + scenario.idle + 2 + 3 * scenario.threads
    deadline = time.monotonic() + PATIENCE
    while load.poll() is None and time.monotonic() < deadline:
        if descriptors(load) >= count:
            break
        time.sleep(0.01)


def descriptors(process):
    try:
        return len(os.listdir(f"/proc/{process.pid}/fd"))
    except OSError:
        return 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_listening(process):
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    if not ready or not process.stdout.readline().startswith(b"Listening on "):
        raise Crashed("it does not listen")


class Running:
    """A server that is up, for a `with`."""

    def __init__(self, server, cores, env=None):
        self.port = free_port()
        self.options = server.load
        self.errors = tempfile.TemporaryFile()
        server_cores, self.load_cores = cores
        self.process = start(
            [*server.argv, self.port], server_cores, stdout=subprocess.PIPE, stderr=self.errors,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def __enter__(self):
        try:
            await_listening(self.process)
        except Crashed:
            self.explain()
            end(self.process)
            raise
        # Once it has come to rest: what it opened to start may be closed yet.
        self.files = None
        while self.files != (now := self.descriptors()):
            self.files = now
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        end(self.process)
        self.errors.close()

    def explain(self):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        if lines:
            print(f"bench: it said: {lines[-1]}", file=sys.stderr)

    def load(self, *args):
        return start(
            [LOAD, "--addr", f"127.0.0.1:{self.port}", "--json", *self.options, *args],
            self.load_cores, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def descriptors(self):
        return descriptors(self.process)

    def await_connections(self, count):
        """Waits until the server has so many."""
        deadline = time.monotonic() + PATIENCE
        while self.descriptors() < self.files + count:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Crashed(f"it does not accept {count} connections")
            time.sleep(0.01)

    def cpu(self):
        """Nanoseconds of processor time, user and system, of all threads."""
        return cpu_of(self.proc)

    def memory(self):
        """Resident bytes: all, and those not of files (of which the kernel maps
        more or fewer at a time). Exact, where VmRSS may lag by some pages."""
        rollup = (self.proc / "smaps_rollup").read_text()
        return (
            1024 * int(re.search(rf"^{name}:\s+(\d+)", rollup, re.M)[1])
            for name in ("Rss", "Anonymous")
        )

    def finish(self, load):
        """What echo-bench says in the end."""
        out, err = load.communicate(timeout=PATIENCE)
        status = load.returncode
        end(load)
        if self.process.poll() is not None:
            self.explain()
            raise Crashed(f"it ended with {self.process.returncode}")
        if status != 0:
            said = err.decode(errors="replace").strip()
            try:
                errors = json.loads(out)["errors"]
            except ValueError:
                raise Wrong(f"echo-bench ended with {status}: {said}") from None
            if not errors:
                # On a busy machine, nothing may be echoed in a short run.
                raise Missed(f"echo-bench ended with {status}: {said}")
            raise Wrong(f"echo-bench ended with {status}: {errors}")
        return json.loads(out)


def time_wait():
    """How many closed connections the system keeps, which slows new ones."""
    stat = pathlib.Path("/proc/net/sockstat").read_text()
    match = re.search(r"^TCP:.* tw (\d+)", stat, re.M)
    return int(match[1]) if match else 0


def schedstat(task):
    return [int(field) for field in (task / "schedstat").read_text().split()]


def cpu_of(proc):
    try:
        return sum(schedstat(task)[0] for task in (proc / "task").iterdir())
    except OSError:
        # utime and stime, in ticks: of 10 ms mostly.
        fields = (proc / "stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


# --- measuring ----------------------------------------------------------------


class Bench:
    def __init__(self, options):
        self.options = options
        allowed = sorted(os.sched_getaffinity(0))
        self.server_core = allowed[0]
        # Not the other half of the same core, if there is a choice.
        siblings = pathlib.Path(
            f"/sys/devices/system/cpu/cpu{allowed[0]}/topology/thread_siblings_list"
        )
        halves = numbers(siblings.read_text()) if siblings.exists() else {allowed[0]}
        apart = [core for core in allowed[1:] if core not in halves]
        self.load_core = (apart or allowed[1:] or allowed)[0]
        self.cores = {self.server_core}, {self.load_core}
        self.dropped = {}  # (server, scenario) or server -> why
        self.results = {
            "schema": SCHEMA,
            "complete": False,
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(self.server_core, self.load_core),
            "scenarios": {},
            "servers": {},
            "runs": [],
            "syscalls": [],
            "allocations": [],
            "memory": [],
            "idle": [],
            "cold_build_seconds": None,
            "skipped": [],
            "failures": [],
        }

    def say(self, text):
        print(text, flush=True)

    def save(self):
        path = self.options.out / "results.json"
        path.with_suffix(".new").write_text(json.dumps(self.results, indent=1) + "\n")
        path.with_suffix(".new").replace(path)

    def skip(self, name, why):
        self.results["skipped"].append({"server": name, "why": why})
        self.say(f"bench: skipped {name}: {why}")

    def attempt(self, server, what, function, *args):
        """Runs one measurement; one that fails ends that of this server only."""
        try:
            for _ in range(2):
                try:
                    return function(server, *args)
                except Missed as error:
                    self.say(f"bench: again, {server.name}, {what}: {error}")
            self.skip(server.name, f"{what}: missed twice")
            return None
        except (Crashed, FileNotFoundError, ProcessLookupError) as error:
            self.dropped[server.name] = str(error)
            self.skip(server.name, f"it crashed in {what}: {error}")
            if server.family != "reactor":
                return None
            failure = f"{server.name}, {what}: it crashed: {error}"
        except (Wrong, subprocess.TimeoutExpired) as error:
            self.dropped[server.name, what.split()[0]] = str(error)
            failure = f"{server.name}, {what}: {error}"
        self.results["failures"].append(failure)
        self.say(f"bench: FAILED {failure}")
        end_all()
        return None

    # One run of the load, with a sample taken at both ends of the part in which
    # it surely counts messages; of a churn, which has no height to come to, and
    # stalls where the system runs out of ports, at both ends of all of it.
    def loaded(self, server, scenario, warm_up, seconds, sample, env=None):
        both = self.cores[0] | self.cores[1]
        warm_up = 0 if scenario.churn else warm_up
        with Running(server, self.cores if scenario.apart else (both, both), env) as running:
            first, begun = sample(running), time.monotonic()
            load = running.load(
                *scenario.load(), "--warm-up", f"{warm_up * 1000:.0f}ms",
                "--duration", f"{seconds * 1000:.0f}ms",
            )  # fmt: skip
            if scenario.churn:
                result = running.finish(load)
                second, ended = sample(running), time.monotonic()
                messages = result["messages"]
            else:
                await_height(load, scenario)
                time.sleep(warm_up + 0.05)
                first, begun = sample(running), time.monotonic()
                time.sleep(0.8 * seconds - 0.1)
                second, ended = sample(running), time.monotonic()
                missed = load.poll() is not None
                result = running.finish(load)
                if missed:
                    raise Missed("the load had ended before the server was looked at")
                messages = result["messages_per_second"] * (ended - begun)
        return result, [b - a for a, b in zip(first, second)], messages, ended - begun

    def run(self, server, name, scenario, number):
        def sample(running):
            try:
                waited = sum(schedstat(t)[1] for t in (running.proc / "task").iterdir())
            except OSError:
                waited = 0
            return running.cpu(), waited

        closing = time_wait()
        result, (cpu, waited), messages, window = self.loaded(
            server, scenario, self.options.warm_up, self.options.seconds, sample
        )
        for field in ("addr", "schema"):
            result.pop(field)
        micros = cpu / 1000 / max(messages, 1)
        self.results["runs"].append({
            "scenario": name, "round": number, "server": server.name, "load": result,
            "cpu_us_per_message": micros, "cpu_share": cpu / 1e9 / window,
            # How long the server was kept from its core, by others.
            "waited_share": waited / 1e9 / window,
            "time_wait_before": closing,
        })  # fmt: skip
        latency = result["latency_ns"]
        self.say(
            f"{name:8} round {number + 1}/{self.options.rounds}  {server.name:16}"
            f" {result['messages_per_second']:>10,.0f} messages/s"
            f"   p50 {latency['p50'] / 1000:>8,.0f} us   p99 {latency['p99'] / 1000:>9,.0f} us"
            f"   cpu {micros:7.2f} us/message"
        )
        return True

    def allocations(self, server, name, scenario):
        if not server.binary or not (BUILT / "count.so").exists():
            return
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(16))
            file.flush()
            words = mmap.mmap(file.fileno(), 16)
            env = {"LD_PRELOAD": str(BUILT / "count.so"), "ALLOC_COUNT": file.name}
            _, (_, count), messages, _ = self.loaded(
                server, scenario, 0.2, 0.5 if self.options.quick else 1.0,
                lambda _: (0, struct.unpack("LL", words)[1]), env,
            )  # fmt: skip
            there = struct.unpack("LL", words)[0]
        if there:  # else it is linked statically
            self.results["allocations"].append({
                "scenario": name, "server": server.name, "count": count,
                "messages": messages, "per_message": count / max(messages, 1),
            })  # fmt: skip

    def syscalls(self, server, name, scenario):
        with Running(server, self.cores) as running, \
                tempfile.NamedTemporaryFile("r", errors="replace") as record:  # fmt: skip
            load = running.load(*scenario.load(), "--warm-up", "0ms", "--duration", "60s")
            await_height(load, scenario)
            time.sleep(0.1)
            tracer = start(
                ["strace", "-f", "-y", "-s", "0", "-o", record.name, "-p", running.process.pid],
                self.cores[0] | self.cores[1], stderr=subprocess.PIPE,
            )  # fmt: skip
            ready, _, _ = select.select([tracer.stderr], [], [], PATIENCE)
            if not ready or b"attached" not in tracer.stderr.readline():
                end(tracer)
                self.say("bench: strace cannot attach: no system calls are counted")
                self.can_trace = False
                return
            time.sleep(0.3 if self.options.quick else 1.0)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(PATIENCE)
            end(tracer)
            if running.process.poll() is not None or load.poll() is not None:
                running.finish(load)
            end(load)
            calls, received = count_calls(record)
        messages = received / scenario.size
        if messages:
            self.results["syscalls"].append({
                "scenario": name, "server": server.name, "messages": messages,
                "per_message": sum(calls.values()) / messages,
                "calls": {call: count / messages for call, count in calls.items()},
            })  # fmt: skip

    def memory(self, server, idle):
        with Running(server, self.cores) as running:
            load = running.load("--connections", 1, "--idle", idle, "--duration", "100s")
            try:
                running.await_connections(1 + idle)
            except Crashed:
                if load.poll() is not None:
                    running.finish(load)  # says more
                raise
            time.sleep(0.3)
            if running.process.poll() is not None or load.poll() is not None:
                running.finish(load)
            resident, anonymous = running.memory()
            end(load)
        self.results["memory"].append({
            "server": server.name, "idle": idle,
            "resident_bytes": resident, "anonymous_bytes": anonymous,
        })  # fmt: skip
        self.say(f"memory   {idle:>6} idle  {server.name:18} {resident / 1024:>9,.0f} KiB resident")

    def startups(self, server, count):
        """Milliseconds from its start to its `Listening` line."""
        mine = os.sched_getaffinity(0)
        took = []
        for _ in range(count):
            argv = [*map(str, server.argv), str(free_port())]
            # Inherited: what would set it in the child takes longer than a start.
            os.sched_setaffinity(0, self.cores[0])
            begun = time.monotonic()
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            children.append(process)
            os.sched_setaffinity(0, mine)
            await_listening(process)
            took.append((time.monotonic() - begun) * 1000)
            end(process)
        self.results["servers"][server.name]["startup_ms"] = took

    def describe(self, server):
        facts = {"about": server.about, "family": server.family or server.name}
        if server.binary and not (server.family and server.only):
            facts["binary_bytes"] = stripped_size(server.needs)
        if server.crate:
            manifest = (ROOT if server.family == "reactor" else HERE) / "Cargo.toml"
            facts["crate"] = server.crate
            facts["crates"] = crates(manifest, server.crate)
            if server.name == "reactor":
                facts["crates_of_binary"] = crates(manifest, "echo-server")
        self.results["servers"][server.name] = facts
        self.attempt(server, "start-up", self.startups, 3 if self.options.quick else 11)

    def idling(self, all_servers):
        """Processor time of 5 seconds in which a connection is open and silent,
        after it was busy."""
        running = {}
        peers = []
        for server in all_servers:
            try:
                server_up = Running(server, self.cores).__enter__()
            except Crashed as error:
                self.skip(server.name, str(error))
                continue
            running[server.name] = server_up
            peer = socket.create_connection(("127.0.0.1", server_up.port), PATIENCE)
            peers.append(peer)
            for _ in range(2000):
                peer.sendall(bytes(64))
                left = 64
                while left and (data := peer.recv(left)):
                    left -= len(data)
        time.sleep(0.5)
        before = {name: up.cpu() for name, up in running.items()}
        time.sleep(5)
        for name, up in running.items():
            share = (up.cpu() - before[name]) / 5e9
            self.results["idle"].append({"server": name, "cpu_share": share})
            up.__exit__()
        for peer in peers:
            peer.close()
        shares = ", ".join(f"{i['server']} {i['cpu_share']:.2%}" for i in self.results["idle"])
        self.say(f"idle     processor time over 5 silent seconds: {shares}")

    def cold_build(self):
        with tempfile.TemporaryDirectory(dir=BUILT, prefix="cold-") as target:
            self.say("build    the workspace, cold")
            begun = time.monotonic()
            cargo = start(
                ["cargo", "build", "--quiet", "--release", "--locked",
                 "--manifest-path", ROOT / "Cargo.toml", "--target-dir", target],
                os.sched_getaffinity(0),
            )  # fmt: skip
            status = cargo.wait()
            took = time.monotonic() - begun
            end(cargo)
        if status == 0:
            self.results["cold_build_seconds"] = took
            self.say(f"build    {took:.0f} s")
        else:
            self.skip("build", "cargo failed")

    def all(self):
        options = self.options
        present = []
        for why in options.skipped:
            self.skip(*why.split("=", 1))
        named = {entry["server"] for entry in self.results["skipped"]}
        help_text = subprocess.run([OURS / "echo-server", "--help"], capture_output=True).stdout
        for server in servers(options.python):
            wanted = not options.only or {server.name, server.family} & set(options.only)
            if not wanted or server.name in named:
                continue
            if server.only and not set(server.only) & set(options.scenario):
                continue
            if not server.needs.exists():
                self.skip(server.name, "it is not built")
            elif server.flag and server.flag.encode() not in help_text:
                self.skip(server.name, f"echo-server does not know {server.flag} yet")
            elif server.tool and not shutil.which(server.tool):
                self.skip(server.name, f"{server.tool} is not installed")
            else:
                present.append(server)
        if not present:
            sys.exit("bench: no server is left to measure")

        for server in present:
            self.describe(server)
        self.can_trace = shutil.which("strace") is not None
        if not self.can_trace:
            self.say("bench: no strace: no system calls are counted")
        together = [name for name in TOGETHER if name in options.scenario]
        for name in options.scenario:
            if name in SCENARIOS:
                names = together if name in together else [name]
                if name == names[0]:
                    self.scenarios(names, present)
            elif name in ("memory", "tlsmemory"):
                sizes = IDLE[:2] if options.quick else IDLE
                for idle in sizes:
                    if not self.fits(idle + 1, "memory"):
                        break
                    for server in self.taking_part(name, present):
                        self.attempt(server, "memory", self.memory, idle)
            elif name == "idle":
                self.idling(self.taking_part("idle", present))
            elif name == "build":
                self.cold_build()
            self.save()
        self.results["complete"] = True
        self.save()

    def fits(self, connections, what):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if connections + 100 < most:
            return True
        self.skip(what, f"{connections} connections: the limit on open files is {most}")
        return False

    def taking_part(self, name, present):
        return [
            server for server in present
            if (name in server.only if server.only
                else name not in THREADS + TLS or name in server.also)
            and server.name not in self.dropped and (server.name, name) not in self.dropped
        ]  # fmt: skip

    def scenarios(self, names, present):
        def fits(name):
            return self.fits(SCENARIOS[name].connections + SCENARIOS[name].idle, name)

        names = [name for name in names if fits(name)]
        for name in names:
            self.results["scenarios"][name] = SCENARIOS[name].about
        for number in range(self.options.rounds):
            for name in names:
                order = self.taking_part(name, present)
                turn = number % len(order) if order else 0
                for server in order[turn:] + order[:turn]:
                    self.attempt(server, f"{name} round {number + 1}",
                                 self.run, name, SCENARIOS[name], number)  # fmt: skip
        for name in names:
            self.counts(name, SCENARIOS[name], present)

    def counts(self, name, scenario, present):
        """What is counted in runs of its own."""
        if not scenario.apart or (self.options.quick and name != "c64"):
            return
        for server in self.taking_part(name, present):
            if self.can_trace:
                self.attempt(server, f"{name} under strace", self.syscalls, name, scenario)
            self.attempt(server, f"{name}, counting", self.allocations, name, scenario)


def count_calls(record):
    """How often each call was made, and how many bytes came by sockets."""
    calls, received, begun = {}, 0, {}
    # `PID read(7<socket:[1]>, ""..., 65536) = 64`, or in two parts.
    line_form = re.compile(
        r"(\d+) +(?:<\.\.\. (?P<rest>\w+) resumed>|(?P<call>\w+)\((?P<socket>\d+<(?:socket|TCP))?)"
        r".*?(?:= (?P<result>-?\d+)[^=]*|(?P<open><unfinished \.\.\.>))$"
    )
    for line in record:
        match = line_form.match(line.rstrip())
        if not match:
            continue
        call = match["call"] or match["rest"]
        from_socket = bool(match["socket"])
        if match["rest"]:
            from_socket = begun.pop(match[1], False)
        else:
            calls[call] = calls.get(call, 0) + 1
        if match["open"]:
            begun[match[1]] = from_socket
        elif from_socket and call in ("read", "readv", "recvfrom", "recvmsg"):
            received += max(int(match["result"]), 0)
    return calls, received


def stripped_size(path):
    with tempfile.TemporaryDirectory() as folder:
        stripped = pathlib.Path(folder, "stripped")
        output("strip", "-o", stripped, path)
        return (stripped if stripped.exists() else path).stat().st_size


def crates(manifest, package):
    """How many crates it takes on this platform, itself included."""
    done = subprocess.run(
        ["cargo", "tree", "--locked", "--manifest-path", manifest, "--package", package,
         "--edges", "normal", "--prefix", "none", "--format", "{p}"],
        capture_output=True, text=True,
    )  # fmt: skip
    lines = {" ".join(line.split()[:2]) for line in done.stdout.splitlines() if line.strip()}
    return len(lines) or None


def numbers(text):
    """`0-1,4` as a set."""
    found = set()
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def output(*argv, cwd=None):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def machine(server_core, load_core):
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    exact = pathlib.Path("/proc/self/schedstat").exists()
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "server_core": server_core,
        "load_core": load_core,
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg(),
        "cpu_time_from": "/proc/PID/schedstat, in nanoseconds" if exact
        else "/proc/PID/stat, in ticks",
    }  # fmt: skip


def versions(interpreter):
    found = {
        "rustc": output("rustc", "--version").removeprefix("rustc "),
        "cc": (output("cc", "--version").splitlines() or [""])[0].removeprefix("cc "),
        "glibc": platform.libc_ver()[1],
        "python": output(interpreter, "--version").removeprefix("Python ") if interpreter else "",
        "libuv": output("pkg-config", "--modversion", "libuv"),
    }
    venv = BUILT / "venv/bin/python"
    if venv.exists():
        found["uvloop"] = output(venv, "-c", "import uvloop; print(uvloop.__version__)")
    locks = {HERE: ("calloop", "mio", "smol", "tokio"), ROOT: ("polling",)}
    for folder, names in locks.items():
        text = (folder / "Cargo.lock").read_text()
        for name in names:
            match = re.search(rf'^name = "{name}"\nversion = "(.*)"$', text, re.M)
            found[name] = match[1] if match else ""
    commit = output("git", "rev-parse", "--short", "HEAD", cwd=ROOT)
    changed = output("git", "status", "--porcelain", "crates", "bins", "Cargo.lock", cwd=ROOT)
    found["reactor"] = commit + (", with changes that are not committed" if changed else "")
    return {name: version for name, version in found.items() if version}


def names(text):
    return [name for name in text.split(",") if name]


def main():
    parser = argparse.ArgumentParser("bench", usage="see scripts/bench.sh --help")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--only", type=names, default=[])
    parser.add_argument("--scenario", type=names, default=[])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--python", default="")
    parser.add_argument("--skipped", action="append", default=[], metavar="SERVER=WHY")
    parser.add_argument("--check", action="store_true", help="the command line only")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (0.6 if options.quick else 3.0)
    options.warm_up = 0.2 if options.quick else 0.5
    if options.rounds < 1 or options.seconds < 0.5:
        parser.error("at least one round, and half a second for each")

    known = {server.name for server in servers("")}
    for name in options.only:
        if name not in known:
            parser.error(f"no server {name!r}; there are {', '.join(sorted(known))}")
    for name in options.scenario:
        if name not in SCENARIOS and name not in OTHERS:
            parser.error(f"no scenario {name!r}; there are {', '.join([*SCENARIOS, *OTHERS])}")
    if not options.scenario:
        options.scenario = (
            ["c1", "c64", "churn", "memory"] if options.quick else [*SCENARIOS, *OTHERS]
        )
    if options.check:
        return

    def ended(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    bench.results["versions"] = versions(options.python)
    # Away from the server's core; what is started is told its own.
    everywhere = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, everywhere - {bench.server_core} or everywhere)
        bench.all()
    finally:
        os.sched_setaffinity(0, everywhere)
        end_all()
    report.write(options.out)
    for failure in bench.results["failures"]:
        print(f"bench: FAILED {failure}", file=sys.stderr)
    sys.exit(1 if bench.results["failures"] else 0)


if __name__ == "__main__":
    main()
