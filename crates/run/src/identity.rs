//! Who a loaded program is, for those who look for it with other tools.

use std::fmt;

use skep_engine::{Loaded, Session};
use skep_spec::ProgType;
use skep_sys::bpf::ProgInfo;

/// A program as the machine that runs it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its type.
    pub prog_type: ProgType,
    /// Instructions as they were given to the machine.
    pub insns: u32,
    /// What the kernel made of it; `None` where another machine runs it.
    pub kernel: Option<KernelIdentity>,
}

/// A program as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelIdentity {
    /// Its number.
    pub id: u32,
    /// Its name, which is at most 15 bytes long.
    pub name: String,
    /// Instructions behind the verifier, which takes away and puts in; 0 where they are hidden.
    pub insns: u32,
    /// Bytes of machine code; 0 where it is interpreted.
    pub code_bytes: u32,
}

impl Identity {
    /// Of a program that has loaded; `None` for one that has not.
    pub(crate) fn of(session: &dyn Session, loaded: &Loaded) -> Option<Identity> {
        let insns = *loaded.result.as_ref().ok()?;
        let info = session.program_fd(loaded.program).and_then(|fd| ProgInfo::of(fd).ok());
        Some(Identity {
            prog_type: session.spec().program(loaded.program).prog_type,
            insns,
            kernel: info.map(|info| KernelIdentity {
                id: info.id.0,
                name: info.name,
                insns: info.xlated_bytes / 8,
                code_bytes: info.jited_bytes,
            }),
        })
    }
}

/// `id 17, name sched_switch, type tracepoint, 25 instructions (28 behind the verifier, 143 bytes of machine code)`
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { prog_type, insns, kernel } = self;
        match kernel {
            Some(kernel) if !kernel.name.is_empty() => write!(f, "id {}, name {}, ", kernel.id, kernel.name)?,
            // Before kernel 4.15 programs have no names.
            Some(kernel) => write!(f, "id {}, ", kernel.id)?,
            None => {}
        }
        write!(f, "type {prog_type}, {insns} instruction{}", if *insns == 1 { "" } else { "s" })?;
        let Some(kernel) = kernel else { return Ok(()) };
        let behind = (kernel.insns > 0).then(|| format!("{} behind the verifier", kernel.insns));
        let code = (kernel.code_bytes > 0).then(|| format!("{} bytes of machine code", kernel.code_bytes));
        let more: Vec<String> = behind.into_iter().chain(code).collect();
        if more.is_empty() { Ok(()) } else { write!(f, " ({})", more.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_left_out() {
        let shown = |kernel| Identity { prog_type: ProgType::KPROBE, insns: 2, kernel }.to_string();
        let kernel = KernelIdentity { id: 7, name: "on".into(), insns: 3, code_bytes: 40 };
        let whole = "id 7, name on, type kprobe, 2 instructions (3 behind the verifier, 40 bytes of machine code)";
        assert_eq!(shown(Some(kernel.clone())), whole);
        let hidden = KernelIdentity { insns: 0, code_bytes: 0, ..kernel };
        assert_eq!(shown(Some(hidden)), "id 7, name on, type kprobe, 2 instructions");
        assert_eq!(shown(None), "type kprobe, 2 instructions");
    }
}
