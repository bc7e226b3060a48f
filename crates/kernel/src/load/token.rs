//! Delegated rights: the BPF token of a bpffs (kernel 6.9).
//!
//! The owner of a machine mounts a bpffs for a user namespace with `delegate_cmds`, `delegate_maps`, `delegate_progs` and
//! `delegate_attachs`; from it a process of that namespace makes a token, which stands for capabilities that the namespace
//! itself cannot give. Where it is looked for is libbpf's way (`bpf_object_prepare_token`): nobody has to say anything.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use skep_engine::{Error, ErrorKind, Token};
use skep_sys::{Errno, bpf, bpffs, caps};

use crate::map::failed;

/// The variable by which libbpf's users choose the bpffs; empty means none.
const VARIABLE: &str = "LIBBPF_BPF_TOKEN_PATH";

/// The token to load with; `None` where there is none, and none was asked for.
pub(super) fn open(from: &Token) -> Result<Option<OwnedFd>, Error> {
    match from {
        Token::Never => Ok(None),
        Token::At(path) => create(path).map(Some),
        Token::Auto => match std::env::var_os(VARIABLE) {
            Some(path) if path.is_empty() => Ok(None),
            Some(path) => create(Path::new(&path)).map(Some),
            // The kernel gives none to the first namespace, whose capabilities need no help.
            None if caps::in_first_user_namespace() => Ok(None),
            // Not mounted, or nothing delegated: the usual case.
            None => Ok(attempt(Path::new(bpffs::DEFAULT_PATH)).ok()),
        },
    }
}

fn attempt(path: &Path) -> Result<OwnedFd, Errno> {
    bpf::token_create(bpffs::open_dir(path)?.as_fd())
}

fn create(path: &Path) -> Result<OwnedFd, Error> {
    let shown = path.display();
    attempt(path).map_err(|errno| {
        let error = failed(&format!("cannot make a BPF token of `{shown}`"), errno);
        match errno {
            Errno::ENOENT if path.exists() => error
                .with_kind(ErrorKind::Denied)
                .with_hint("nothing is delegated there: mount it with `delegate_cmds`, `delegate_maps`, `delegate_progs` and `delegate_attachs`"),
            Errno::EINVAL if bpffs::contains(path) => {
                error.with_kind(ErrorKind::Unsupported).with_hint("tokens need kernel 6.9, and the root of the bpffs")
            }
            Errno::EINVAL | Errno::ENOTDIR => error.with_hint("name the folder where a bpffs is mounted"),
            Errno::EOPNOTSUPP => error.with_hint("tokens are for user namespaces: in the first one capabilities count"),
            Errno::EPERM => error
                .with_kind(ErrorKind::Denied)
                .with_hint("the bpffs must be of this user namespace, and CAP_BPF is needed in it"),
            _ => error,
        }
    })
}
