//! Programs of a cgroup: packets, sockets, addresses, options, devices, sysctls, and lsm hooks.
//!
//! They run for every process in the folder and below it. Only cgroup v2 has them; where a machine also has v1 folders,
//! v2 is mounted somewhere else (often `/sys/fs/cgroup/unified`).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use skep_engine::Error;
use skep_spec::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{Attach, LinkTarget, Relative, flags, prog_attach, prog_detach};
use skep_sys::caps::Cap;
use skep_sys::mount::{self, CGROUP2_SUPER_MAGIC};
use skep_sys::undo::{Guard, Undo};
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold, Legacy};
use super::request::Request;
use super::tc;

/// The first kernel with links for cgroups.
const LINK: KernelVersion = KernelVersion::new(5, 7, 0);
/// `BPF_PROG_DETACH`, for the guard.
const BPF_PROG_DETACH: u32 = 9;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let attach_type = request
        .program
        .attach_type
        .or_else(|| default_type(request.program.prog_type))
        .ok_or_else(|| request.error("its section does not say at which hook of a cgroup"))?;
    let path = folder(request)?;
    let cgroup = open(request, path)?;
    let what = format!("{attach_type} {}", path.display());
    let (flags, extra) = tc::order(request.options.position);
    match request.link(LinkTarget::Fd(cgroup.as_fd()), attach_type, flags, extra) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(Errno::EINVAL) if KernelVersion::running() < LINK => {
            let hold = legacy(request, cgroup, attach_type)
                .map_err(|errno| request.refused(&what, errno, &[Cap::BPF, Cap::NET_ADMIN]))?;
            Ok(Attachment::new(what, hold))
        }
        Err(errno @ Errno::EPERM) if is_privileged() => Err(request
            .error(format_args!("{what}: a program there, or in a folder above, allows no other"))
            .with_source(errno)
            .with_hint(format!("look at them with `bpftool cgroup tree {}`", path.display()))),
        Err(errno) => Err(request.refused(what, errno, &[Cap::BPF, Cap::NET_ADMIN])),
    }
}

/// Links are only refused with `EPERM` to a privileged process when an old-style exclusive program stands in the way.
fn is_privileged() -> bool {
    let have = skep_sys::caps::Caps::effective();
    have.has(Cap::NET_ADMIN) && have.has(Cap::SYS_ADMIN)
}

pub(super) fn attach_lsm(request: &Request<'_>, hook: &str) -> Result<Attachment, Error> {
    let path = folder(request)?;
    let cgroup = open(request, path)?;
    let what = format!("lsm_cgroup {hook} {}", path.display());
    let (flags, extra) = tc::order(request.options.position);
    match request.link(LinkTarget::Fd(cgroup.as_fd()), AttachType::LSM_CGROUP, flags, extra) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(errno) => Err(request.refused_since(what, errno, &[Cap::BPF, Cap::SYS_ADMIN], KernelVersion::new(6, 0, 0))),
    }
}

/// Sections that say only the program's type, as `cgroup/skb` and `cgroup/dev` may.
fn default_type(prog_type: ProgType) -> Option<AttachType> {
    Some(match prog_type {
        ProgType::CGROUP_SKB => AttachType::CGROUP_INET_INGRESS,
        ProgType::CGROUP_SOCK => AttachType::CGROUP_INET_SOCK_CREATE,
        ProgType::CGROUP_DEVICE => AttachType::CGROUP_DEVICE,
        ProgType::CGROUP_SYSCTL => AttachType::CGROUP_SYSCTL,
        ProgType::SOCK_OPS => AttachType::CGROUP_SOCK_OPS,
        _ => return None,
    })
}

fn folder<'a>(request: &Request<'a>) -> Result<&'a Path, Error> {
    request.options.cgroup.ok_or_else(|| {
        let error = request.needs("it needs a cgroup");
        match mounted() {
            Some(root) => {
                error.with_hint(format!("name a folder with `--cgroup DIR` (all processes: {})", root.display()))
            }
            None => error.with_hint("no cgroup v2 is mounted: `mount -t cgroup2 none DIR`, then `--cgroup DIR`"),
        }
    })
}

/// Opens a folder of cgroup v2, by its path or by its path below the root.
pub(super) fn open(request: &Request<'_>, path: &Path) -> Result<File, Error> {
    let shown = path.display();
    let root = mounted();
    let mut candidates = vec![path.to_owned()];
    if let Some(root) = &root {
        candidates.push(root.join(path.strip_prefix("/").unwrap_or(path)));
    }
    let found = candidates.iter().find(|path| mount::magic_of(path) == Some(CGROUP2_SUPER_MAGIC));
    let Some(found) = found else {
        let error = if path.exists() {
            request.error(format_args!("`{shown}` is not a folder of cgroup v2"))
        } else {
            request.error(format_args!("there is no cgroup `{shown}`"))
        };
        return Err(match root {
            Some(root) => error.with_hint(format!("cgroup v2 is mounted at {}", root.display())),
            None => error.with_hint("no cgroup v2 is mounted: `mount -t cgroup2 none DIR`"),
        });
    };
    File::open(found)
        .map_err(|error| request.error(format_args!("cannot open the cgroup `{shown}`")).with_source(error))
}

/// The root of cgroup v2.
pub(super) fn open_root(request: &Request<'_>) -> Result<File, Error> {
    let root = mounted()
        .ok_or_else(|| request.error("no cgroup v2 is mounted").with_hint("mount it: `mount -t cgroup2 none DIR`"))?;
    open(request, &root)
}

/// Where cgroup v2 is mounted.
fn mounted() -> Option<PathBuf> {
    // `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELDS] - TYPE SOURCE OPTIONS`
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        Some(PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " ")))
    })
}

pub(super) fn legacy(request: &Request<'_>, cgroup: File, attach_type: AttachType) -> Result<Hold, Errno> {
    let program = request.fd.try_clone_to_owned()?;
    // `target_fd`, `attach_bpf_fd`, `attach_type`, `attach_flags`.
    let mut attr = Vec::new();
    for word in [cgroup.as_raw_fd() as u32, program.as_raw_fd() as u32, attach_type.0, 0] {
        attr.extend_from_slice(&word.to_ne_bytes());
    }
    let keep = vec![cgroup.as_fd(), program.as_fd()];
    let guard = Guard::spawn(&[Undo::Bpf { command: BPF_PROG_DETACH, attr, keep }])?;
    prog_attach(request.fd, &place(&cgroup, attach_type, flags::F_ALLOW_MULTI))?;
    Ok(Hold::Legacy(Legacy::new("5.7", Some(guard), move || {
        // Detaching takes no flags (6.6 and later refuse them).
        prog_detach(Some(program.as_fd()), &place(&cgroup, attach_type, 0))
    })))
}

fn place(cgroup: &File, attach_type: AttachType, attach_flags: u32) -> Attach<'_> {
    Attach {
        target: LinkTarget::Fd(cgroup.as_fd()),
        attach_type: attach_type.0,
        attach_flags,
        replace: None,
        relative: Relative::None,
        expected_revision: 0,
    }
}
