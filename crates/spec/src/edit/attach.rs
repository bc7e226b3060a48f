//! Completing a bare section: `SEC("kprobe")` says how a program attaches and leaves the place to whoever runs it.

use crate::section::{Place, place};
use crate::{AttachPoint, Error, Program};

impl Program {
    /// Whether its section says how it attaches but not where, such as `SEC("kprobe")` or `SEC("tp")`.
    pub fn is_bare(&self) -> bool {
        how(&self.attach).is_some_and(|how| place::read(&how, None, &self.section).0 == self.attach)
    }

    /// Completes a bare section with `text`, as though it stood behind the section's slash: `vfs_read` for `kprobe`,
    /// `sched/sched_switch` for `tp`, `PATH:FUNCTION` for `uprobe`. `sched:sched_switch`, as tools write tracepoints, is taken
    /// as well.
    ///
    /// # Errors
    ///
    /// When the section is not bare, or the text is none that may stand there.
    pub fn attach_to(&mut self, text: &str) -> Result<(), Error> {
        let how = how(&self.attach)
            .filter(|_| self.is_bare())
            .ok_or_else(|| Error::new(format!("section `{}` leaves no place open", self.section)).about(&self.name))?;
        let text = match how {
            Place::Tracepoint => text.replacen(':', "/", 1),
            _ => text.to_owned(),
        };
        let (attach, warning) = place::read(&how, Some(&text), &self.section);
        if let Some((message, hint)) = warning {
            let error = Error::new(message).about(&self.name);
            return Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        self.attach = attach;
        Ok(())
    }
}

/// How the text of such a place is read; `None` for places without a text.
fn how(attach: &AttachPoint) -> Option<Place> {
    Some(match attach {
        AttachPoint::Tracepoint { .. } => Place::Tracepoint,
        AttachPoint::RawTracepoint { .. } => Place::RawTracepoint,
        AttachPoint::BtfTracepoint { .. } => Place::BtfTracepoint,
        AttachPoint::Kprobe { ret, .. } => Place::Kprobe { ret: *ret },
        AttachPoint::KprobeMulti { when, .. } => Place::KprobeMulti(*when),
        AttachPoint::Ksyscall { ret, .. } => Place::Ksyscall { ret: *ret },
        AttachPoint::Uprobe { ret, .. } => Place::Uprobe { ret: *ret },
        AttachPoint::UprobeMulti { when, .. } => Place::UprobeMulti(*when),
        AttachPoint::Usdt { .. } => Place::Usdt,
        AttachPoint::Function { .. } => Place::Function,
        AttachPoint::FunctionMulti { .. } => Place::FunctionMulti,
        AttachPoint::Freplace { .. } => Place::Freplace,
        AttachPoint::Lsm { .. } => Place::Lsm,
        AttachPoint::Iter { .. } => Place::Iter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::section::SectionTable;
    use crate::{FuncId, Program};

    fn program(section: &str) -> Program {
        let meaning = SectionTable::new().lookup(section);
        Program { attach: meaning.attach, ..Program::new("it", FuncId(0), section, meaning.prog_type) }
    }

    /// A bare section completed is the whole section.
    #[test]
    fn a_completed_section_means_what_the_whole_one_means() {
        for (bare, text) in [
            ("tp", "sched/sched_switch"),
            ("raw_tp", "sched_switch"),
            ("tp_btf", "sched_switch"),
            ("kprobe", "vfs_read+0x4"),
            ("kretprobe", "vfs_read"),
            ("kprobe.multi", "vfs_*"),
            ("ksyscall", "execve"),
            ("uprobe", "/bin/sh:main"),
            ("uretprobe.multi", "libc.so.6:mall*"),
            ("usdt", "libc.so.6:libc:setjmp"),
            ("fentry.s", "nf_conntrack:nf_conntrack_in"),
            ("freplace", "handle"),
            ("lsm", "file_open"),
            ("iter", "task"),
        ] {
            let mut completed = program(bare);
            assert!(completed.is_bare(), "{bare}");
            completed.attach_to(text).unwrap();
            assert_eq!(completed.attach, program(&format!("{bare}/{text}")).attach, "{bare}/{text}");
            assert!(!completed.is_bare(), "{bare}/{text}");
        }
        let mut tracepoint = program("tracepoint");
        tracepoint.attach_to("sched:sched_switch").unwrap();
        assert_eq!(tracepoint.attach, program("tp/sched/sched_switch").attach);
    }

    #[test]
    fn what_says_its_place_already_is_left_alone() {
        for section in ["kprobe/vfs_read", "xdp", "cgroup/dev", "socket"] {
            let mut it = program(section);
            assert!(!it.is_bare(), "{section}");
            let error = it.attach_to("vfs_write").unwrap_err();
            assert_eq!(error.to_string(), format!("`it`: section `{section}` leaves no place open"));
            assert_eq!(it.attach, program(section).attach);
        }
        let error = program("tp").attach_to("sched_switch").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("write SEC(\"tp/CATEGORY/sched_switch\")"));
        assert!(program("kprobe").attach_to("f+here").unwrap_err().to_string().contains("`here` is no number"));
    }
}
