//! Ids: every program, map, link and BTF on the machine, one after the other.
//!
//! # Safety
//!
//! These attributes hold no addresses at all.
#![expect(unsafe_code, reason = "makes the bpf(2) call")]

use std::fmt;
use std::os::fd::OwnedFd;

use super::attr::{self, Attr as _};
use super::{call, call_fd, cmd};
use crate::Errno;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident, $next:ident;)*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// All that exist now, in order. Ends after the first error (`EPERM` without `CAP_SYS_ADMIN`). What goes away
            /// between listing and opening answers `ENOENT` when opened.
            pub fn all() -> impl Iterator<Item = Result<$name, Errno>> {
                walk(cmd::$next).map(|id| id.map($name))
            }
        }
    )* };
}

ids! {
    /// Id of a program.
    ProgId, PROG_GET_NEXT_ID;
    /// Id of a map.
    MapId, MAP_GET_NEXT_ID;
    /// Id of a BTF object. The kernel's own is 1.
    BtfId, BTF_GET_NEXT_ID;
    /// Id of a link.
    LinkId, LINK_GET_NEXT_ID;
}

fn walk(command: u32) -> impl Iterator<Item = Result<u32, Errno>> {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let mut a = attr::GetId::zeroed();
        a.start_id = at?;
        // SAFETY: no addresses in this attribute.
        match unsafe { call(command, &mut a) } {
            Ok(_) => {
                at = Some(a.next_id);
                Some(Ok(a.next_id))
            }
            Err(Errno::ENOENT) => {
                at = None;
                None
            }
            Err(errno) => {
                at = None;
                Some(Err(errno))
            }
        }
    })
}

pub(super) fn open(command: u32, id: u32, open_flags: u32) -> Result<OwnedFd, Errno> {
    let mut a = attr::GetId::zeroed();
    a.start_id = id;
    a.open_flags = open_flags;
    // SAFETY: no addresses in this attribute; the command returns a descriptor.
    unsafe { call_fd(command, &mut a) }
}
