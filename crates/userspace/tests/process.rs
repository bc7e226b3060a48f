//! Commands and processes under the tracer: what is seen of them, and that they behave as if nobody looked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skep_sys::syscalls;
use skep_userspace::process::{Calls, Event, Tracer, Wanted, What};
use skep_vm::{Memory as _, Task as _};

/// One event, with what the memory of its task said at that time.
#[derive(Clone, Debug)]
struct Seen {
    pid: u32,
    tid: u32,
    comm: String,
    what: What,
    text: Vec<u8>,
}

fn nr(name: &str) -> u32 {
    syscalls::all().find(|(_, call)| *call == name).unwrap().0
}

fn calls(names: &[&str]) -> Calls {
    // Not every architecture has every one.
    syscalls::all().filter(|(_, call)| names.contains(call)).map(|(nr, _)| nr).collect()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

/// As user 65534, whom nothing is allowed, when we are root.
fn unprivileged(mut command: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Whom to trace.
enum Target {
    Command(Command),
    Pid(u32),
}

fn start(target: Target, wanted: Wanted) -> Result<(Tracer, Log), skep_engine::Error> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&seen);
    let sink = move |event: Event<'_>| {
        let mut text = Vec::new();
        if let What::Enter { nr: call, args, .. } = &event.what
            && *call == nr("write")
        {
            text = vec![0; args[2] as usize];
            event.task.read(args[1], &mut text).unwrap();
        }
        let task = event.task;
        let comm = String::from_utf8(task.comm()).unwrap();
        let seen = Seen { pid: task.pid(), tid: task.tid(), comm, what: event.what, text };
        to.lock().unwrap().push(seen);
    };
    let tracer = match target {
        Target::Pid(pid) => Tracer::join(pid, wanted, sink)?,
        Target::Command(command) => {
            let tracer = Tracer::hold(command, sink)?;
            // It waits, and nobody hears of it yet.
            assert!(tracer.status().is_none() && seen.lock().unwrap().is_empty());
            tracer.release(wanted).map_err(|cause| skep_engine::Error::new(format!("{:?}", cause.kind())))?;
            tracer
        }
    };
    Ok((tracer, seen))
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command to its end.
fn trace(command: Command, wanted: Wanted) -> (ExitStatus, Vec<Seen>) {
    let (tracer, seen) = start(Target::Command(command), wanted).unwrap();
    until("all tasks end", || tracer.is_done());
    let status = tracer.status().unwrap();
    drop(tracer);
    let seen = seen.lock().unwrap().clone();
    (status, seen)
}

#[test]
fn a_command_is_seen_from_its_first_call_to_its_end() {
    let wanted = Wanted { enter: calls(&["write", "execve"]), exit: calls(&["write", "execve"]), ..Wanted::default() };
    let (status, seen) = trace(unprivileged(sh("echo one; exit 3")), wanted);
    assert_eq!(status.code(), Some(3));
    let what: Vec<&What> = seen.iter().map(|seen| &seen.what).collect();
    // Between fork and exec it is still us.
    assert!(matches!(what[0], What::Enter { nr: call, .. } if *call == nr("execve")), "{what:?}");
    assert!(matches!(what[1], What::Executed { old_tid, path } if *old_tid == seen[0].tid && path == b"/bin/sh"));
    assert!(matches!(what[2], What::Exit { nr: call, ret: 0, .. } if *call == nr("execve")), "{what:?}");
    assert!(matches!(what[3], What::Enter { args: [1, _, 4, ..], .. }), "{what:?}");
    assert_eq!((seen[3].text.as_slice(), seen[3].comm.as_str()), (&b"one\n"[..], "sh"));
    assert!(matches!(what[4], What::Exit { ret: 4, .. }), "{what:?}");
    assert_eq!(what[5], &What::Ending { status: 3 << 8, last: true });
    assert_eq!(what.len(), 6, "{what:?}");
}

#[test]
fn a_command_by_name_is_executed_once() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("exit 0");
    let (status, seen) = trace(command, Wanted { enter: calls(&["execve"]), ..Wanted::default() });
    assert!(status.success());
    let execs = seen.iter().filter(|seen| matches!(seen.what, What::Enter { .. })).count();
    assert_eq!(execs, 1, "{seen:?}");
}

#[test]
fn calls_that_nobody_wants_do_not_show() {
    let (status, seen) = trace(sh("ls / > /dev/null"), Wanted { enter: calls(&["mkdir"]), ..Wanted::default() });
    assert!(status.success());
    assert!(!seen.iter().any(|seen| matches!(seen.what, What::Enter { .. } | What::Exit { .. })), "{seen:?}");
}

#[test]
fn all_calls_are_seen_when_all_are_wanted() {
    let (status, seen) = trace(
        sh("ls / > /dev/null"),
        Wanted { enter: Calls::All, exit: Calls::All, signals: true, ..Wanted::default() },
    );
    assert!(status.success());
    let enters = seen.iter().filter(|seen| matches!(seen.what, What::Enter { .. })).count();
    let exits = seen.iter().filter(|seen| matches!(seen.what, What::Exit { .. })).count();
    // Two processes end inside of exit_group.
    assert!(enters > 10 && enters.abs_diff(exits) <= 2, "{enters} {exits}");
}

#[test]
fn a_thousand_children_are_followed() {
    let script = "i=0; while [ $i -lt 1000 ]; do (exit 7); [ $? = 7 ] || exit 1; i=$((i+1)); done; exit 5";
    let (status, seen) =
        trace(sh(script), Wanted { exit: calls(&["getppid", "clone", "vfork", "fork"]), ..Wanted::default() });
    assert_eq!(status.code(), Some(5));
    let mut born = 0;
    let mut ended = 0;
    let mut zero = 0;
    for seen in &seen {
        match seen.what {
            What::Born { tid, pid } => {
                assert_eq!(tid, pid);
                born += 1;
            }
            What::Ending { status, last } if seen.pid != seen.tid || status != 5 << 8 => {
                assert_eq!((status, last), (7 << 8, true));
                ended += 1;
            }
            What::Exit { ret: 0, .. } => zero += 1,
            _ => {}
        }
    }
    assert_eq!((born, ended, zero), (1000, 1000, 1000));
}

#[test]
fn signals_arrive_and_kill_as_ever() {
    let (status, seen) = trace(
        sh("trap 'echo caught' USR1; kill -USR1 $$; kill -TERM $$; echo never"),
        Wanted { enter: calls(&["write"]), signals: true, ..Wanted::default() },
    );
    assert_eq!(status.signal(), Some(15));
    let signals: Vec<i32> = seen
        .iter()
        .filter_map(|seen| if let What::Signal { signal, .. } = seen.what { Some(signal) } else { None })
        .collect();
    assert_eq!(signals, [10, 15]);
    let written: Vec<&[u8]> = seen.iter().map(|seen| seen.text.as_slice()).filter(|text| !text.is_empty()).collect();
    assert_eq!(written, [b"caught\n"]);
}

#[test]
fn a_stopped_job_stays_stopped_until_it_is_continued() {
    let (tracer, seen) = start(
        Target::Command(sh("kill -STOP $$; echo on; exit 4")),
        Wanted { enter: calls(&["write"]), signals: true, ..Wanted::default() },
    )
    .unwrap();
    let pid = tracer.pid();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    until("the job is stopped", || {
        state().contains(") t ")
            && seen.lock().unwrap().iter().any(|s| matches!(s.what, What::Signal { signal: 19, .. }))
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(tracer.status().is_none());
    let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    until("it ends", || tracer.is_done());
    assert_eq!(tracer.status().unwrap().code(), Some(4));
}

#[test]
fn a_command_that_is_not_there_says_so() {
    let tracer = Tracer::hold(Command::new("/nonexistent/command"), |_| {}).unwrap();
    assert_eq!(tracer.release(Wanted::default()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    until("nothing is left", || tracer.is_done());
}

#[test]
fn a_command_that_is_never_released_never_runs() {
    let file = std::env::temp_dir().join(format!("skep-unreleased-{}", std::process::id()));
    let tracer = Tracer::hold(sh(&format!("echo > {}", file.display())), |_| {}).unwrap();
    drop(tracer);
    assert!(!file.exists());
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Process {
        Process(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_process_is_joined_and_left_again() {
    let file = std::env::temp_dir().join(format!("skep-traced-{}", std::process::id()));
    let script = format!("while :; do echo beat > {}; sleep 0.01; done", file.display());
    let process = Process::start(sh(&script));
    let pid = process.0.id();
    let (tracer, seen) =
        start(Target::Pid(pid), Wanted { enter: calls(&["write"]), exit: calls(&["write"]), ..Wanted::default() })
            .unwrap();
    let beats = || {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|seen| matches!(seen.what, What::Exit { ret: 5, .. }) && seen.pid == pid)
            .count()
    };
    until("it beats", || beats() > 3);
    // There can be one tracer only, and the second one says whose it is.
    let again = start(Target::Pid(pid), Wanted::default()).unwrap_err();
    assert!(again.hint().unwrap().contains(&format!("process {}", tracer_of(pid))), "{again}: {:?}", again.hint());
    drop(tracer);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("TracerPid:\t0"), "{status}");
    std::fs::remove_file(&file).unwrap();
    until("it goes on without us", || file.exists());
    drop(process);
    let _ = std::fs::remove_file(&file);
}

fn tracer_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap().trim().to_owned()
}

#[test]
fn a_process_that_is_not_there_says_so() {
    let error = start(Target::Pid(4_194_304), Wanted::default()).unwrap_err();
    assert_eq!(error.to_string(), "there is no process 4194304");
}

/// Runs as another process: traces a command that makes a folder, until it is killed or finished as the variable says.
#[test]
fn helper_that_traces_another() {
    let Ok(script) = std::env::var("SKEP_TEST_TRACE") else { return };
    let (tracer, seen) =
        start(Target::Command(sh(&script)), Wanted { enter: calls(&["mkdir"]), ..Wanted::default() }).unwrap();
    if let Some(marker) = std::env::var_os("SKEP_TEST_STAY") {
        until("the first folder", || seen.lock().unwrap().iter().any(|s| matches!(s.what, What::Enter { .. })));
        assert!(tracer.is_needed());
        // Only now may the command go on, and end.
        std::fs::write(marker, "").unwrap();
        tracer.stay();
        return;
    }
    loop {
        std::thread::park();
    }
}

/// A command that makes two folders, the second one when it is told to; both calls are wanted.
fn orphan(name: &str, stay: bool, between: impl FnOnce(&mut Process, u32)) {
    let dir = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name);
    let script = format!(
        "cd {}; echo $$ > pid; mkdir one || exit 1; while [ ! -e go ]; do sleep 0.005; done; mkdir two && (mkdir three) && echo > end",
        dir.display(),
    );
    let mut tracing = Process::start({
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper_that_traces_another", "--nocapture"]).env("SKEP_TEST_TRACE", script);
        command.stdout(std::process::Stdio::null());
        if stay {
            command.env("SKEP_TEST_STAY", path("stays"));
        }
        command
    });
    until("the first folder", || path("one").exists());
    let pid = std::fs::read_to_string(path("pid")).unwrap().trim().parse().unwrap();
    between(&mut tracing, pid);
    if stay {
        until("nobody looks any more", || path("stays").exists());
    }
    std::fs::write(path("go"), "").unwrap();
    until("it ends well", || path("end").exists());
    if stay {
        assert!(tracing.0.wait().unwrap().success());
    }
    assert!(path("three").exists());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_target_lives_on_when_the_tracer_is_killed() {
    orphan("killed", false, |tracing, pid| {
        tracing.0.kill().unwrap();
        tracing.0.wait().unwrap();
        until("another tracer has it", || tracer_of(pid) != "0");
    });
}

#[test]
fn the_target_lives_on_when_nobody_looks_any_more() {
    orphan("left", true, |_, _| {});
}

/// The processors that `/proc` says a task may use.
fn allowed(task: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{task}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

/// Runs as another process: makes a wanted call again and again, and says between that which processors it may use; or only makes it, without an end.
#[test]
fn helper_that_calls_again_and_again() {
    let Some(file) = std::env::var_os("SKEP_TEST_BUSY") else { return };
    let busy = || {
        for _ in 0..1000 {
            let _ = rustix::process::getppid();
        }
    };
    if std::env::var_os("SKEP_TEST_ENDLESS").is_some() {
        std::fs::write(file, "").unwrap();
        loop {
            busy();
        }
    }
    let mut said = Vec::new();
    let free = allowed("thread-self");
    let is_one = |cpus: &str| cpus.parse::<u32>().is_ok();
    said.push(("at first", free.clone()));
    // Whoever has to wait for a processor in between is not busy, so more than one try may be needed.
    let mut confined = String::new();
    until("it is confined", || {
        busy();
        confined = allowed("thread-self");
        is_one(&confined)
    });
    said.push(("while it is busy", confined));
    let cpus = rustix::thread::sched_getaffinity(None).unwrap();
    said.push(("asked", cpus.count().to_string()));
    said.push(("once asked", allowed("thread-self")));
    busy();
    let there = std::thread::spawn(|| allowed("thread-self")).join().unwrap();
    said.push(("a thread", there));
    busy();
    let output = Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    said.push(("a child", text.split_whitespace().last().unwrap().to_owned()));
    busy();
    // It makes no wanted call in here.
    until("it is free when it is quiet", || allowed("thread-self") == free);
    said.push(("while it is quiet", allowed("thread-self")));
    let lines: Vec<String> = said.into_iter().map(|(when, what)| format!("{when}: {what}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}

/// A command that makes a wanted call again and again.
fn busy(file: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_that_calls_again_and_again", "--nocapture"]).env("SKEP_TEST_BUSY", file);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn a_busy_task_is_beside_its_tracer_and_does_not_see_it() {
    let file = std::env::temp_dir().join(format!("skep-busy-{}", std::process::id()));
    // Who ignores SIGTRAP has a filter: only who is stopped is beside us, not who is met at gates.
    let exe = std::env::current_exe().unwrap();
    let mut command =
        sh(&format!("trap '' TRAP; exec {} --exact helper_that_calls_again_and_again --nocapture", exe.display()));
    command.env("SKEP_TEST_BUSY", &file).stdout(std::process::Stdio::null());
    let (status, seen) = trace(command, Wanted { enter: calls(&["getppid"]), ..Wanted::default() });
    assert!(status.success());
    assert!(seen.iter().filter(|seen| matches!(seen.what, What::Enter { .. })).count() >= 4000);
    let said = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    let free = allowed("thread-self");
    let count = rustix::thread::sched_getaffinity(None).unwrap().count();
    let confined = said.lines().find_map(|line| line.strip_prefix("while it is busy: ")).unwrap();
    assert!(confined.parse::<u32>().is_ok(), "one processor: {said}");
    let wanted = format!(
        "at first: {free}\nwhile it is busy: {confined}\nasked: {count}\nonce asked: {free}\na thread: {free}\na child: {free}\nwhile it is quiet: {free}\n"
    );
    assert_eq!(said, wanted);
}

#[test]
fn a_busy_task_is_free_when_the_tracer_is_killed() {
    let file = std::env::temp_dir().join(format!("skep-busy-killed-{}", std::process::id()));
    let mut target = Process::start({
        let mut command = busy(&file);
        command.env("SKEP_TEST_ENDLESS", "1");
        command
    });
    until("it runs", || file.exists());
    let pid = target.0.id();
    let mut tracing = Process::start({
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper_that_joins_another", "--nocapture"]).env("SKEP_TEST_JOIN", pid.to_string());
        command.stdout(std::process::Stdio::null());
        command
    });
    let task = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.map(|entry| allowed(entry.unwrap().file_name().to_str().unwrap())).collect::<Vec<String>>()
    };
    let free = allowed("thread-self");
    if free.parse::<u32>().is_err() {
        until("it is beside the tracer", || task().iter().any(|cpus| *cpus != free));
    }
    tracing.0.kill().unwrap();
    tracing.0.wait().unwrap();
    until("it is free", || task().iter().all(|cpus| *cpus == free));
    target.0.kill().unwrap();
    let _ = std::fs::remove_file(file);
}

/// Runs as another process: traces a process that runs already.
#[test]
fn helper_that_joins_another() {
    let Ok(pid) = std::env::var("SKEP_TEST_JOIN") else { return };
    let wanted = Wanted { enter: calls(&["getppid"]), ..Wanted::default() };
    let _tracer = start(Target::Pid(pid.parse().unwrap()), wanted).unwrap();
    loop {
        std::thread::park();
    }
}

/// The functions of the command of the next test, the outermost first; each ends behind what it calls.
const NESTED: [fn() -> u64; 3] = [outer, middle, inner];

#[inline(never)]
fn outer() -> u64 {
    std::hint::black_box(middle()) + 1
}

#[inline(never)]
fn middle() -> u64 {
    // Room on the stack that is no multiple of a piece that is read.
    let room = std::hint::black_box([1u8; 20_000]);
    std::hint::black_box(inner()) + u64::from(room[17])
}

#[inline(never)]
fn inner() -> u64 {
    let group = rustix::process::getpgid(None).map_or(0, |group| group.as_raw_nonzero().get());
    std::hint::black_box(group as u64) + 1
}

#[test]
fn stacks_are_walked_without_frame_pointers() {
    if std::env::var_os("SKEP_TEST_NESTED").is_some() {
        let places: Vec<u8> = NESTED.iter().flat_map(|function| (*function as usize as u64).to_ne_bytes()).collect();
        rustix::io::write(rustix::stdio::stdout(), &places).unwrap();
        std::hint::black_box(NESTED[0])();
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "stacks_are_walked_without_frame_pointers", "--nocapture"]);
    command.env("SKEP_TEST_NESTED", "1").stdout(std::process::Stdio::null());
    let found = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let to = Arc::clone(&found);
    let sink = move |event: Event<'_>| {
        let What::Enter { nr: call, args, .. } = event.what else { return };
        let mut found = to.lock().unwrap();
        if call == nr("write") && args[2] == 24 {
            let mut places = [0; 24];
            event.task.read(args[1], &mut places).unwrap();
            found.0 = places.as_chunks().0.iter().map(|place| u64::from_ne_bytes(*place)).collect();
        } else if call == nr("getpgid") && found.1.is_empty() {
            found.1 = [127, 3].map(|max| event.task.user_stack(max).unwrap()).to_vec();
        }
    };
    let tracer = Tracer::hold(command, sink).unwrap();
    tracer.release(Wanted { enter: calls(&["write", "getpgid"]), ..Wanted::default() }).unwrap();
    until("all tasks end", || tracer.is_done());
    drop(tracer);
    let (places, stacks) = found.lock().unwrap().clone();
    let [stack, short] = &stacks[..] else { panic!("the call was seen: {stacks:x?}") };
    let inside = |place: u64| stack.iter().position(|addr| (place + 1..place + 400).contains(addr));
    let frames: Vec<Option<usize>> = places.iter().map(|place| inside(*place)).collect();
    assert!(frames.is_sorted_by(|outer, inner| outer > inner) && frames.len() == 3, "{places:x?} {stack:x?}");
    assert!(frames.iter().all(Option::is_some), "{places:x?} {stack:x?}");
    // Not only these: the thread that runs tests, and what started it.
    assert!(stack.len() > frames[0].unwrap() + 4, "{stack:x?}");
    assert_eq!(short[..], stack[..3]);
}
