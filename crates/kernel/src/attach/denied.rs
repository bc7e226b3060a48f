//! Why the kernel said no: which capability is missing, or which lockdown forbids it.

use skep_engine::{Error, ErrorKind};
use skep_sys::Errno;
use skep_sys::caps::{self, Cap, Caps, Lockdown};

/// Adds a hint to an error, if the error number is one of those that mean a lack of rights.
pub(super) fn explain(error: Error, errno: Errno, needs: &[Cap]) -> Error {
    if !matches!(errno, Errno::EPERM | Errno::EACCES) {
        return error;
    }
    let error = error.with_kind(ErrorKind::Denied);
    match reason(Caps::effective(), caps::in_first_user_namespace(), caps::lockdown(), needs) {
        Some(reason) => error.with_hint(reason),
        None => error,
    }
}

fn reason(have: Caps, first_namespace: bool, lockdown: Option<Lockdown>, needs: &[Cap]) -> Option<String> {
    let missing: Vec<String> = needs
        .iter()
        // CAP_SYS_ADMIN stands for the two that were split from it in 5.8.
        .filter(|cap| !(have.has(**cap) || matches!(**cap, Cap::BPF | Cap::PERFMON) && have.has(Cap::SYS_ADMIN)))
        .map(Cap::to_string)
        .collect();
    if !missing.is_empty() {
        return Some(format!("this process lacks {}: run it as root", missing.join(" and ")));
    }
    if !first_namespace {
        return Some("this is root of a user namespace only: run it outside the container, or privileged".to_owned());
    }
    match lockdown {
        Some(level @ (Lockdown::Integrity | Lockdown::Confidentiality)) => Some(format!(
            "no capability is missing; kernel lockdown is `{level}`, and a security module may forbid it as well"
        )),
        _ => Some("no capability is missing: a security module or a sandbox forbids it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let needs = [Cap::BPF, Cap::NET_ADMIN];
        let hint = reason(Caps(1 << Cap::BPF.0), true, None, &needs).unwrap();
        assert_eq!(hint, "this process lacks CAP_NET_ADMIN: run it as root");
        let hint = reason(Caps(1 << Cap::SYS_ADMIN.0 | 1 << Cap::NET_ADMIN.0), true, Some(Lockdown::Integrity), &needs);
        assert!(hint.unwrap().contains("lockdown is `integrity`"));
    }

    #[test]
    fn other_errors_are_left_alone() {
        assert_eq!(explain(Error::new("x"), Errno::ENOENT, &[Cap::BPF]).hint(), None);
    }
}
