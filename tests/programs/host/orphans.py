# orphans.py SKEP SCRIPT COMMAND STEP_MS ROUNDS WHO: kills who traces a command after more and more time, and tells which tasks did not end by themselves.
#
# WHO is `worker`, `front` or `both`. A command prints `begins` and `ends`, and nothing in between.
import ctypes, os, signal, sys, time

PR_SET_CHILD_SUBREAPER = 36
# SIGHUP is for who is stopped while nobody is left that could let him go on.
FAULTS = [signal.SIGHUP, signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS]

skep, script, command = sys.argv[1:4]
step_ms, rounds, who = float(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(pid):
    try:
        return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []


def start():
    """Starts skep as a shell with job control does, in a group of its own and another session than this; its process, its output, and what the shell lives as long as."""
    reads, writes = os.pipe()
    told, tells = os.pipe()
    over, open_end = os.pipe()
    if os.fork() == 0:
        os.close(open_end)
        os.setsid()
        front = os.fork()
        if front == 0:
            os.setpgid(0, 0)
            os.dup2(writes, 1)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
            os.execv(skep, [skep, "trace", "-q", "--engine", "user", script, "-c", command])
        os.write(tells, b"%d" % front)
        os.close(writes)
        os.read(over, 1)
        os._exit(0)
    os.close(writes)
    os.close(tells)
    os.close(over)
    front = int(os.read(told, 20))
    os.close(told)
    return front, os.fdopen(reads), open_end


whole = cut = 0
number = 0
# A busy machine takes longer until something runs.
while number < rounds or number < 10 * rounds and not (whole and cut):
    after_ms = number * step_ms
    number += 1
    front, output, shell = start()
    time.sleep(after_ms / 1000)
    worker = next(iter(children(front)), front)
    for pid in {"worker": [worker], "front": [front], "both": {front, worker}}[who]:
        os.kill(pid, signal.SIGKILL)
    with output:
        lines = output.read().splitlines()
    os.close(shell)
    lines = [line for line in lines if line and not line.startswith("@")]
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
