# orphans.py SKEP SCRIPT COMMAND STEP_MS ROUNDS WHO: kills who traces a command after more and more time, and tells which tasks did not end by themselves.
#
# WHO is `worker`, `front` or `both`. A command prints `begins` and `ends`, and nothing in between.
import ctypes, os, signal, subprocess, sys, time

PR_SET_CHILD_SUBREAPER = 36
FAULTS = [signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS]

skep, script, command = sys.argv[1:4]
step_ms, rounds, who = float(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(pid):
    try:
        return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []


whole = cut = 0
number = 0
# A busy machine takes longer until something runs.
while number < rounds or number < 10 * rounds and not (whole and cut):
    after_ms = number * step_ms
    number += 1
    front = subprocess.Popen(
        [skep, "trace", "-q", "--engine", "user", script, "-c", command],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    time.sleep(after_ms / 1000)
    worker = next(iter(children(front.pid)), front.pid)
    for pid in {"worker": [worker], "front": [front.pid], "both": {front.pid, worker}}[who]:
        os.kill(pid, signal.SIGKILL)
    lines = [line for line in front.stdout.read().splitlines() if line and not line.startswith("@")]
    while True:
        try:
            _, status = os.wait()
        except ChildProcessError:
            break
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in FAULTS:
            print(f"after {after_ms} ms: a task ended by signal {os.WTERMSIG(status)}")
    if lines == ["begins", "ends"]:
        whole += 1
    elif not lines:
        cut += 1
    else:
        print(f"after {after_ms} ms: {lines}")
print("some ran, some never began" if whole and cut else f"{whole} ran, {cut} never began")
