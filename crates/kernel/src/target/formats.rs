//! Formats of tracepoints without tracefs, which only root may read: those that a tracer without rights can make events of.
//!
//! System calls are known by heart ([`skep_sys::syscalls`]); the layout of the others is that of their structures in the kernel's
//! types, from which tracefs's own text is made as well (`TRACE_EVENT`, include/trace/stages, Linux 6.18). Where the types are not to be had either, it is
//! that of Linux 6.18 ([`tracepoints`]), as it is for who makes the records (`userspace`'s `process/record.rs`); the kernel's own records nobody gets without tracefs.

use skep_btf::{Btf, Kind, Type};
use skep_sys::syscalls;
use skep_sys::tracepoints::{self, EVENTS};

/// A member of a record: name, offset, bytes, and for an array how many elements.
type Member = (String, u32, u64, Option<u64>);

/// The members of an event's record as the kernel's types have them, behind those that all have.
fn members_of(btf: &Btf, event: &str) -> Option<Vec<Member>> {
    let id = tracepoints::structs(event).iter().find_map(|name| btf.find(name, Kind::STRUCT))?;
    let Type::Struct(layout) = btf.type_by_id(id).ok()? else { return None };
    let mut members = Vec::new();
    for member in layout.members() {
        let size = btf.size_of(member.type_id()).ok()?;
        let elements = match btf.type_by_id(member.type_id()).ok()? {
            Type::Array(array) => Some(u64::from(array.len())),
            _ => None,
        };
        if member.name() != "ent" && size != 0 {
            members.push((member.name().to_owned(), member.bit_offset() / 8, size, elements));
        }
    }
    Some(members)
}

/// All such events, as `category:event`, sorted.
pub(super) fn names() -> Vec<String> {
    let others = EVENTS.iter().map(|(category, event)| format!("{category}:{event}"));
    let calls = syscalls::all().map(|(_, name)| syscalls::tracepoint(name));
    let calls = calls.filter(|name| syscalls::arguments(name).is_some());
    let both = calls.flat_map(|name| [format!("syscalls:sys_enter_{name}"), format!("syscalls:sys_exit_{name}")]);
    let mut names: Vec<String> = others.chain(both).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The format of such an event; `None` for others.
pub(super) fn format(btf: Option<&Btf>, category: &str, event: &str) -> Option<String> {
    if category == "syscalls" {
        return syscalls::format(event);
    }
    if !EVENTS.contains(&(category, event)) {
        return None;
    }
    let members = match btf {
        Some(btf) => members_of(btf, event)?,
        None => {
            let members = tracepoints::members(event).into_iter();
            members
                .map(|it| (it.name.to_owned(), it.off_bytes, it.size_bytes.into(), it.elements.map(u64::from)))
                .collect()
        }
    };
    let mut text = format!("name: {event}\nformat:\n");
    let head = [
        ("unsigned short common_type", 0, 2, 0),
        ("unsigned char common_flags", 2, 1, 0),
        ("unsigned char common_preempt_count", 3, 1, 0),
        ("int common_pid", 4, 4, 1),
    ];
    let mut field = |declaration: &str, off: u32, size: u64, signed: u8| {
        text.push_str(&format!("\tfield:{declaration};\toffset:{off};\tsize:{size};\tsigned:{signed};\n"));
    };
    for (declaration, off, size, signed) in head {
        field(declaration, off, size, signed);
    }
    for (name, off, size, elements) in members {
        match (name.strip_prefix("__data_loc_"), elements) {
            (Some(name), _) => field(&format!("__data_loc char[] {name}"), off, size, 0),
            (None, Some(count)) if count == size => field(&format!("char {name}[{count}]"), off, size, 0),
            (None, Some(count)) => field(&format!("unsigned long {name}[{count}]"), off, size, 0),
            (None, None) => match size {
                1 => field(&format!("bool {name}"), off, size, 0),
                8 if matches!(name.as_str(), "id" | "ret") => field(&format!("long {name}"), off, size, 1),
                8 => field(&format!("unsigned long {name}"), off, size, 0),
                _ => field(&format!("int {name}"), off, size, 1),
            },
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use skep_spec::Target as _;
    use skep_sys::tracefs::Tracefs;

    use super::*;

    /// Names, places and sizes are those of tracefs; types may be spelled otherwise (`pid_t` is `int`).
    #[test]
    fn formats_agree_with_tracefs() {
        let btf = crate::LiveTarget::shared().btf().ok().flatten();
        let (Ok(tracefs), Some(btf)) = (Tracefs::open(), btf) else { return };
        let fields = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("field:"));
            lines.map(|line| line.split("signed:").next().unwrap_or_default()).map(place_and_name).collect()
        };
        for (category, event) in EVENTS {
            let Ok(theirs) = tracefs.format(category, event) else { continue };
            let ours = format(Some(&btf), category, event).unwrap_or_default();
            assert_eq!(fields(&ours), fields(&theirs), "{category}:{event}");
        }
    }

    #[test]
    fn formats_without_types_are_those_of_a_kernel_of_now() {
        if skep_sys::version::KernelVersion::running() < skep_sys::version::KernelVersion::new(6, 17, 0) {
            return;
        }
        let Some(btf) = crate::LiveTarget::shared().btf().ok().flatten() else { return };
        for (category, event) in EVENTS {
            assert_eq!(format(None, category, event), format(Some(&btf), category, event), "{category}:{event}");
        }
    }

    /// Whether `char` is signed changed with 6.2, so that is left out.
    fn place_and_name(field: &str) -> String {
        let (declaration, place) = field.split_once(';').unwrap_or_default();
        format!("{} {place}", declaration.rsplit(' ').next().unwrap_or_default())
    }

    #[test]
    fn there_are_names_for_all_calls() {
        let names = names();
        assert!(names.len() > 600 && names.contains(&"syscalls:sys_enter_newstat".to_owned()));
    }
}
