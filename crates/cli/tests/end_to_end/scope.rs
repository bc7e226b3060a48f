//! Runs that see a family of processes, a cgroup or a container, and nobody else.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::support::cgroup::Cgroup;
use crate::support::needs::Need::{Cgroup as CgroupV2, Root};
use crate::support::skep::{self, call};
use crate::support::{Skep, eventually, needs};

/// Writes the file of each exec, and counts execs by who did them.
const EXECS: &str = "tracepoint:syscalls:sys_enter_execve { printf(\"%s\\n\", str(args.filename)); @all = count(); }";

fn start(args: &[&str]) -> Skep {
    let all: Vec<&std::ffi::OsStr> = ["trace", EXECS].iter().chain(args).map(std::ffi::OsStr::new).collect();
    Skep::start(&mut skep::command(&[], &all))
}

/// An exec of somebody who is in nobody's scope.
fn stranger() {
    let status = Command::new("/usr/bin/env").arg("/bin/true").status();
    assert!(status.expect("there is env").success());
}

fn saw_stranger(output: &str) -> bool {
    output.lines().any(|line| line == "/usr/bin/env")
}

/// A shell that runs a script and reads words from us.
fn shell(script: &str) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().expect("there is a shell")
}

fn tell(child: &mut Child) {
    let input = child.stdin.as_mut().expect("it is piped");
    input.write_all(b"go\n").expect("it reads");
}

#[test]
fn a_command_is_followed_to_its_childrens_children() {
    if !needs(&[Root]) {
        return;
    }
    let command = "sh -c 'read x < /dev/null; sh -c \"/bin/cat /dev/null; (/bin/echo x); true\"; true'";
    let out = {
        let skep = start(&["--follow", "-c", command]);
        stranger();
        skep.end()
    };
    assert!(out.status.success(), "{}", out.stderr);
    for wanted in ["/bin/cat", "/bin/echo"] {
        assert!(out.stdout.lines().any(|line| line == wanted), "{wanted} in\n{}", out.stdout);
    }
    assert!(!saw_stranger(&out.stdout), "{}", out.stdout);
    // The map is right, too.
    let lines = out.stdout.lines().filter(|line| line.starts_with('/')).count();
    assert!(out.stdout.contains(&format!("@all: {lines}\n")), "{}", out.stdout);
}

#[test]
fn children_that_were_there_before_and_later_ones_are_followed() {
    if !needs(&[Root]) {
        return;
    }
    // The inner shell is there before the run, its child is not.
    let mut outer = shell("/bin/sh -c 'read x; /bin/cat /dev/null; read x; true'; true");
    let pid = outer.id().to_string();
    let children = format!("/proc/{pid}/task/{pid}/children");
    eventually(|| std::fs::read_to_string(&children).map_or(true, |text| !text.is_empty()).then_some(()));
    let skep = start(&["--follow", "-p", &pid]);
    stranger();
    tell(&mut outer);
    skep.line("is the grandchild's", |line| line == "/bin/cat");
    tell(&mut outer);
    drop(outer.stdin.take());
    outer.wait().expect("it is ours");
    // The run ends with its process.
    let out = skep.end();
    assert!(out.status.success() && !saw_stranger(&out.stdout), "{}\n{}", out.stdout, out.stderr);
}

#[test]
fn whom_to_follow_is_to_be_said() {
    if !needs(&[Root]) {
        return;
    }
    let out = call(&["trace", EXECS, "--follow"]);
    assert!(!out.status.success() && out.stderr.contains("there is nobody to follow"), "{}", out.stderr);
    assert!(out.stderr.contains("name a process with `-p` or a command with `-c`"), "{}", out.stderr);
}

/// A shell in a cgroup, which waits for a word and then runs `cat`.
fn member(group: &Cgroup) -> Child {
    let child = shell("read x; /bin/cat /dev/null; read x; true");
    std::fs::write(group.path().join("cgroup.procs"), child.id().to_string()).expect("root can move it");
    child
}

fn shows_only(skep: Skep, mut member: Child) {
    stranger();
    tell(&mut member);
    skep.line("is the member's", |line| line == "/bin/cat");
    drop(member.stdin.take());
    member.wait().expect("it is ours");
    skep.signal(rustix::process::Signal::INT);
    let out = skep.end();
    assert!(out.status.success() && !saw_stranger(&out.stdout), "{}\n{}", out.stdout, out.stderr);
    assert!(out.stdout.contains("@all: 1\n"), "{}", out.stdout);
}

#[test]
fn a_cgroup_is_seen_with_those_below_it() {
    if !needs(&[Root, CgroupV2]) {
        return;
    }
    let name = format!("skep-scope-{}", std::process::id());
    let group = Cgroup::new(&format!("{name}/inner"));
    let member = member(&group);
    // Below the mount, as systemd names them.
    shows_only(start(&["--cgroup", &name]), member);
    let out = call(&["trace", EXECS, "--cgroup", &format!("{name}/inmer")]);
    assert!(!out.status.success() && out.stderr.contains("there is no cgroup `"), "{}", out.stderr);
    assert!(out.stderr.contains("inner"), "{}", out.stderr);
    let out = call(&["trace", EXECS, "--cgroup", "/proc"]);
    assert!(!out.status.success() && out.stderr.contains("`/proc` is no cgroup"), "{}", out.stderr);
}

#[test]
fn a_container_is_seen_by_its_id() {
    if !needs(&[Root, CgroupV2]) {
        return;
    }
    let id = |digit: char| format!("{:08x}{}", std::process::id(), digit.to_string().repeat(56));
    let slice = format!("skep-containers-{}", std::process::id());
    for (cgroup, id) in [
        (format!("docker-{}.scope", id('a')), id('a')),
        (format!("kubepods/besteffort/pod77/{}", id('b')), id('b')),
        (format!("cri-containerd-{}.scope", id('c')), id('c')),
        (format!("libpod-{}.scope/container", id('d')), id('d')),
    ] {
        let group = Cgroup::new(&format!("{slice}/{cgroup}"));
        let member = member(&group);
        let out = call(&["trace", EXECS, "--container", "skep-nobody"]);
        assert!(!out.status.success() && out.stderr.contains("there is no container `skep-nobody`"), "{}", out.stderr);
        assert!(out.stderr.contains(&id[..12]), "what runs is told:\n{}", out.stderr);
        shows_only(start(&["--container", &id[..12]]), member);
    }
}
