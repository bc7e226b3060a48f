//! Cgroup programs, in a cgroup of the test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skep_btf::Kind;
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkKind, LinkTarget, ProgQuery, prog_query};
use skep_sys::mount;

use super::super::attachment::Attachment;
use super::super::request::Request;
use super::super::{Options, cgroup};
use super::{Counter, Recipe, detached, root, skip, wait_until, words};

/// A folder of cgroup v2, which goes away with this.
struct Folder {
    path: PathBuf,
    /// cgroup v2, when it is not mounted anywhere.
    _mount: Option<OwnedFd>,
}

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("skep-test-{}-{name}", std::process::id());
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = mounted.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let (root, mount) = match mounted {
            Some(path) => (path.to_owned(), None),
            None => {
                let mount = mount::detached("cgroup2").unwrap();
                (format!("/proc/self/fd/{}", mount.as_raw_fd()), Some(mount))
            }
        };
        let path = Path::new(&root).join(name);
        fs::create_dir(&path).unwrap();
        Folder { path, _mount: mount }
    }

    fn options(&self) -> Options<'_> {
        Options { cgroup: Some(&self.path), ..Options::default() }
    }

    /// Runs a process in the folder that makes a socket.
    fn make_socket(&self) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "attach::tests::cgroups::child_that_makes_a_socket"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        fs::write(self.path.join("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.take().unwrap().write_all(b"go").unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that has just ended may still be counted.
        wait_until("the cgroup to be empty", || fs::remove_dir(&self.path).is_ok());
    }
}

const CHILD: &str = "SKEP_TEST_MAKE_SOCKET";

/// Not a test of its own: the process that is moved into the cgroup.
#[test]
fn child_that_makes_a_socket() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap();
}

fn program() -> Counter {
    Recipe::new("cgroup/sock_create", ProgType::CGROUP_SOCK, AttachPoint::Cgroup)
        .attach_type(AttachType::CGROUP_INET_SOCK_CREATE)
        .returning(1)
        .load()
}

#[test]
fn a_cgroup_program_runs_for_the_processes_of_its_folder() {
    if !root() {
        return;
    }
    let folder = Folder::new("runs");
    program().runs_while_attached(&folder.options(), || folder.make_socket());
}

#[test]
fn several_programs_share_a_folder_and_links_say_where_they_are() {
    if !root() {
        return;
    }
    let folder = Folder::new("shared");
    let (a, b) = (program(), program());
    let held = [a.attached(&folder.options()), b.attached(&folder.options())];
    for attachment in &held {
        assert!(matches!(attachment.info().unwrap()[0].kind, LinkKind::Cgroup { attach_type: 2, .. }));
    }
    folder.make_socket();
    assert_eq!((a.runs(), b.runs()), (1, 1));
    held.into_iter().for_each(detached);
}

#[test]
fn without_a_link_the_program_is_taken_back() {
    if !root() {
        return;
    }
    let folder = Folder::new("legacy");
    let counter = program();
    let options = folder.options();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let file = fs::File::open(&folder.path).unwrap();
    let there = || {
        let query = ProgQuery { target: LinkTarget::Fd(file.as_fd()), attach_type: 2, query_flags: 0 };
        prog_query(&query).unwrap().progs.len()
    };
    let hold = cgroup::legacy(&request, file.try_clone().unwrap(), AttachType::CGROUP_INET_SOCK_CREATE).unwrap();
    assert_eq!(there(), 1);
    drop(Attachment::new("cgroup", hold));
    assert_eq!(there(), 0);
}

#[test]
fn an_lsm_hook_runs_for_the_processes_of_a_cgroup() {
    if !root() {
        return;
    }
    let point = AttachPoint::Lsm { hook: "socket_post_create".to_owned() };
    // For programs of this kind 1 means yes.
    let recipe = Recipe::new("lsm_cgroup/socket_post_create", ProgType::LSM, point)
        .attach_type(AttachType::LSM_CGROUP)
        .returning(1);
    if skep_sys::version::KernelVersion::running() < skep_sys::version::KernelVersion::new(6, 0, 0) {
        return skip("kernel 6.0 (lsm_cgroup)");
    }
    let folder = Folder::new("lsm");
    let counter = match recipe.against("bpf_lsm_socket_post_create", Kind::FUNC).try_load() {
        Ok(counter) => counter,
        Err(Errno::EPERM | Errno::ENOTSUPP | Errno::EINVAL) => return skip("lsm_cgroup (CONFIG_BPF_LSM)"),
        Err(errno) => panic!("{errno}"),
    };
    let attachment = match counter.attach(&folder.options()) {
        Ok(attachment) => attachment,
        Err(error) if words(&error).contains("ENOTSUPP") => return skip("lsm_cgroup (trampolines)"),
        Err(error) => panic!("{}", words(&error)),
    };
    // A socket of this process, which is in another cgroup, is none of its business.
    drop(UdpSocket::bind("127.0.0.1:0"));
    assert_eq!(counter.runs(), 0);
    folder.make_socket();
    assert!(counter.runs() > 0);
    let runs = counter.runs();
    detached(attachment);
    folder.make_socket();
    assert_eq!(counter.runs(), runs);
}

#[test]
fn a_wrong_folder_is_told_apart_from_a_missing_one() {
    if !root() {
        return;
    }
    let counter = program();
    let refused =
        |path: Option<&str>| words(&counter.refused(&Options { cgroup: path.map(Path::new), ..Options::default() }));
    assert!(refused(None).contains("--cgroup DIR"), "{}", refused(None));
    assert!(refused(Some("/etc")).contains("is not a folder of cgroup v2"), "{}", refused(Some("/etc")));
    assert!(refused(Some("/no/such/cgroup")).contains("there is no cgroup"), "{}", refused(Some("/no/such/cgroup")));
}

#[test]
fn an_iterator_walks_the_cgroups_below_a_folder() {
    if !root() {
        return;
    }
    let recipe = Recipe::new("iter/cgroup", ProgType::TRACING, AttachPoint::Iter { target: "cgroup".to_owned() })
        .attach_type(AttachType::TRACE_ITER);
    if skep_sys::version::KernelVersion::running() < skep_sys::version::KernelVersion::new(6, 1, 0) {
        return skip("kernel 6.1 (iter/cgroup)");
    }
    let folder = Folder::new("iter");
    fs::create_dir(folder.path.join("below")).unwrap();
    let counter = recipe.against("bpf_iter_cgroup", Kind::FUNC).load();
    let attachment = counter.attached(&folder.options());
    attachment.iterate().unwrap().read_to_end(&mut Vec::new()).unwrap();
    // The folder, the one below, and the end.
    assert_eq!(counter.runs(), 3);
    detached(attachment);
    fs::remove_dir(folder.path.join("below")).unwrap();
}
