//! struct_ops: a map that is a kernel structure of function pointers, such as a TCP congestion control.
//!
//! Putting the structure into the map's only element registers it. If the map was made for links (`BPF_F_LINK`, kernel
//! 6.4) registering waits for the link, and ends with it. Otherwise the kernel itself holds the map while it is
//! registered, so that a process which dies leaves it there: a guard deletes the element.

use std::os::fd::{AsFd, AsRawFd};

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkCreate, LinkExtra, LinkTarget, MapFd, flags};
use skep_sys::caps::Cap;
use skep_sys::undo::{Guard, Undo};

use super::attachment::{Attachment, Hold, Legacy};
use super::denied;
use crate::map::failed;

/// `BPF_MAP_DELETE_ELEM`, for the guard.
const BPF_MAP_DELETE_ELEM: u32 = 3;
/// The key of the only element. The guard passes its address: a forked process has it at the same place.
static KEY: [u8; 4] = [0; 4];

/// Registers the structure `value` (the map's value, with program descriptors in place of functions).
///
/// `linked` says that the map was made with `BPF_F_LINK`.
pub fn attach(map: &MapFd, name: &str, value: &[u8], linked: bool) -> Result<Attachment, Error> {
    let what = format!("struct_ops {name}");
    let refused = |errno: Errno| {
        let error = failed(&format!("cannot attach {what}"), errno);
        match errno {
            Errno::EEXIST => error.with_hint("one of that name is registered already"),
            _ => denied::explain(error, errno, &[Cap::BPF, Cap::PERFMON, Cap::NET_ADMIN]),
        }
    };
    if linked {
        match map.update(&KEY, value, flags::ANY) {
            // It holds its value already: this is another link.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(refused(errno)),
        }
        let create = LinkCreate {
            prog: map.as_fd(),
            target: LinkTarget::None,
            attach_type: AttachType::STRUCT_OPS.0,
            flags: 0,
            extra: LinkExtra::None,
        };
        return Ok(Attachment::new(&what, Hold::Link(create.create().map_err(refused)?)));
    }
    let own = map.try_clone().map_err(refused)?;
    // `map_fd`, padding, `key`, and no value.
    let mut attr = vec![0; 32];
    attr[..4].copy_from_slice(&(own.as_fd().as_raw_fd() as u32).to_ne_bytes());
    attr[8..16].copy_from_slice(&(KEY.as_ptr().expose_provenance() as u64).to_ne_bytes());
    let undo = Undo::Bpf { command: BPF_MAP_DELETE_ELEM, attr, keep: vec![own.as_fd()] };
    let guard = Guard::spawn(&[undo]).map_err(refused)?;
    if let Err(errno) = map.update(&KEY, value, flags::ANY) {
        guard.dismiss();
        return Err(refused(errno));
    }
    Ok(Attachment::new(&what, Hold::Legacy(Legacy::new("6.4", Some(guard), move || own.delete(&KEY)))))
}
