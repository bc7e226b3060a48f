//! Delegated rights: a process of a user namespace loads with a BPF token, and without one it cannot.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use common::*;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use skep_engine::{ErrorKind, LoadOptions, Token};
use skep_kernel::KernelEngine;
use skep_spec::{MapType, ProgType};

/// Says to this binary's tests that they run inside of the namespace, and which bpffs is delegated.
const INSIDE: &str = "SKEP_TEST_TOKEN";

/// What the process inside says when all went as it should.
const LOADED: &str = "loaded inside of the namespace";

/// A process in a user namespace of its own, which has begun to make a bpffs there.
struct Holder(Child);

impl Holder {
    /// `None` where a namespace cannot be made.
    fn start() -> Option<(Holder, OwnedFd)> {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "holder_inside", "--nocapture"])
            .env(INSIDE, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut holder = Holder(child);
        let mut lines = BufReader::new(holder.0.stdout.take()?).lines().map_while(Result::ok);
        let fd = lines.find_map(|line| line.split_once("bpffs at descriptor ")?.1.parse().ok())?;
        let pidfd = pidfd_open(Pid::from_child(&holder.0), PidfdFlags::empty()).ok()?;
        let context = pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty()).ok()?;
        // What else it says nobody reads.
        Some((holder, context))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_user_namespace_loads_with_a_token() {
    if std::env::var_os(INSIDE).is_some() || !may_load() || !kernel(6, 9) {
        return;
    }
    let Some((holder, context)) = Holder::start() else {
        println!("skipped: needs unshare");
        return;
    };
    // Only the first namespace's root may delegate.
    for what in ["delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"] {
        fsconfig_set_string(&context, what, "any").unwrap();
    }
    fsconfig_create(&context).unwrap();
    // Without CLOEXEC: the process inside reaches it by its number.
    let mount = fsmount(&context, FsMountFlags::empty(), MountAttrFlags::empty()).unwrap();
    let run = |variable: Option<&str>| {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--user=/proc/{}/ns/user", holder.0.id()))
            .arg("--preserve-credentials")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "loading_inside", "--nocapture"])
            .env(INSIDE, format!("/proc/self/fd/{}", mount.as_raw_fd()))
            .env_remove("LIBBPF_BPF_TOKEN_PATH");
        if let Some(path) = variable {
            command.env("LIBBPF_BPF_TOKEN_PATH", path);
        }
        let out = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains(LOADED), "{said}");
    };
    run(None);
    run(Some(&format!("/proc/self/fd/{}", mount.as_raw_fd())));
}

/// The first process of the namespace: begins the bpffs, whose owner the namespace becomes by that, and waits.
#[test]
fn holder_inside() {
    if std::env::var_os(INSIDE).is_none_or(|path| !path.is_empty()) {
        return;
    }
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    println!("\nbpffs at descriptor {}", context.as_raw_fd());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// The second: loads.
#[test]
fn loading_inside() {
    let Some(path) = std::env::var_os(INSIDE).filter(|path| !path.is_empty()) else { return };
    let object = || {
        let mut spec = empty();
        add_map(&mut spec, "counts", MapType::HASH, 4, 8, 16);
        let code = "r1 = map[id:0]\nr2 = r10\nr2 += -4\n*(u32 *)(r10 -4) = 0\ncall bpf_map_lookup_elem#1\nr0 = 0\nexit";
        add_program(&mut spec, "tracing", ProgType::KPROBE, code);
        add_program(&mut spec, "network", ProgType::XDP, "r0 = 2\nexit");
        spec
    };
    let load = |token: Token| {
        let session = KernelEngine::new().load(object(), &LoadOptions { token, ..LoadOptions::default() })?;
        skep_engine::Session::programs(&session).iter().try_for_each(|it| it.result.clone().map(drop))
    };
    load(Token::At(path.into())).unwrap();
    let error = load(Token::Never).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("BPF token")), "{:?}", error.hint());
    let by_variable = std::env::var_os("LIBBPF_BPF_TOKEN_PATH").is_some();
    assert_eq!(load(Token::Auto).is_ok(), by_variable);
    let error = load(Token::At("/".into())).unwrap_err();
    assert!(error.to_string().starts_with("cannot make a BPF token of `/`: "), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("where a bpffs is mounted")), "{:?}", error.hint());
    println!("{LOADED}");
}
