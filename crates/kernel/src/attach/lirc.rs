//! lirc_mode2: decoders of what an infrared receiver sees (kernel 4.18). There is no link for them: the program stays at the
//! receiver until it is taken off, so a guard does that if this process dies.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use skep_engine::{Error, ErrorKind};
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{Attach, LinkTarget, Relative, prog_attach, prog_detach};
use skep_sys::caps::Cap;
use skep_sys::undo::{Guard, Undo};

use super::attachment::{Attachment, Hold, Legacy};
use super::request::Request;

/// `BPF_PROG_DETACH`, for the guard.
const BPF_PROG_DETACH: u32 = 9;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let Some(path) = request.options.receiver else {
        let error = request.needs("it needs an infrared receiver");
        return Err(match receivers().as_slice() {
            [] => error.with_kind(ErrorKind::Absent).with_hint("this machine has none: there is no /dev/lirc*"),
            all => error.with_hint(format!("name one with `--receiver DEV` ({})", all.join(" "))),
        });
    };
    let what = format!("lirc_mode2 {}", path.display());
    let receiver = File::open(path)
        .map_err(|error| request.error(format_args!("cannot open {}", path.display())).with_source(error))?;
    let hold = attach_to(request, receiver).map_err(|errno| match errno {
        Errno::EINVAL | Errno::ENOTTY => request
            .failed(format_args!("{what}: it is no infrared receiver that programs can decode for"), errno)
            .with_hint("it must be the /dev/lirc* of a receiver that sends raw pulses (CONFIG_BPF_LIRC_MODE2)"),
        Errno::EEXIST => request.failed(format_args!("{what}: the program is there already"), errno),
        _ => request.refused(&what, errno, &[Cap::BPF, Cap::NET_ADMIN]),
    })?;
    Ok(Attachment::new(what, hold))
}

fn attach_to(request: &Request<'_>, receiver: File) -> Result<Hold, Errno> {
    let program = request.fd.try_clone_to_owned()?;
    // `target_fd`, `attach_bpf_fd`, `attach_type`, `attach_flags`.
    let words = [receiver.as_raw_fd() as u32, program.as_raw_fd() as u32, AttachType::LIRC_MODE2.0, 0];
    let attr = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let keep = vec![receiver.as_fd(), program.as_fd()];
    let guard = Guard::spawn(&[Undo::Bpf { command: BPF_PROG_DETACH, attr, keep }])?;
    if let Err(errno) = prog_attach(request.fd, &place(&receiver)) {
        guard.dismiss();
        return Err(errno);
    }
    Ok(Hold::Legacy(Legacy::new("no", Some(guard), move || prog_detach(Some(program.as_fd()), &place(&receiver)))))
}

fn place(receiver: &File) -> Attach<'_> {
    Attach {
        target: LinkTarget::Fd(receiver.as_fd()),
        attach_type: AttachType::LIRC_MODE2.0,
        attach_flags: 0,
        replace: None,
        relative: Relative::None,
        expected_revision: 0,
    }
}

/// The receivers of this machine.
fn receivers() -> Vec<String> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("lirc"));
    names.sort_unstable();
    names.iter().map(|name| format!("/dev/{name}")).collect()
}
