//! The part of a section name after its first slash: where a program attaches.

use super::Place;
use crate::program::AttachPoint;

/// The attach point, and what is odd about its text.
type Read = (AttachPoint, Option<(String, Option<String>)>);

/// Reads `rest`, what follows the slash after `stem`.
pub(crate) fn read(place: &Place, rest: Option<&str>, stem: &str) -> Read {
    let text = rest.unwrap_or_default();
    let owned = || text.to_owned();
    let attach = match place {
        Place::None => AttachPoint::None,
        Place::Tracepoint => return tracepoint(text, stem),
        Place::RawTracepoint => AttachPoint::RawTracepoint { name: owned() },
        Place::BtfTracepoint => AttachPoint::BtfTracepoint { name: owned() },
        Place::Kprobe { ret } => return kprobe(text, *ret),
        Place::KprobeMulti(when) => AttachPoint::KprobeMulti { pattern: owned(), when: *when },
        Place::Ksyscall { ret } => AttachPoint::Ksyscall { name: owned(), ret: *ret },
        Place::Uprobe { ret } => return uprobe(text, *ret),
        Place::UprobeMulti(when) => {
            let (path, pattern) = split_path(text);
            AttachPoint::UprobeMulti { path: path.to_owned(), pattern: pattern.to_owned(), when: *when }
        }
        Place::Usdt => return usdt(text, stem),
        Place::Function => match text.split_once(':') {
            Some((module, function)) => {
                AttachPoint::Function { module: Some(module.to_owned()), function: function.to_owned() }
            }
            None => AttachPoint::Function { module: None, function: owned() },
        },
        Place::FunctionMulti => AttachPoint::FunctionMulti { pattern: owned() },
        Place::Freplace => AttachPoint::Freplace { function: owned() },
        Place::Lsm => AttachPoint::Lsm { hook: owned() },
        Place::Iter => AttachPoint::Iter { target: owned() },
        Place::StructOps => AttachPoint::StructOps,
        Place::Xdp => AttachPoint::Xdp,
        Place::Tc(direction) => AttachPoint::Tc { direction: direction.or_else(|| direction_in(text)) },
        Place::Netkit => AttachPoint::Netkit,
        Place::Cgroup => AttachPoint::Cgroup,
        Place::PerfEvent => AttachPoint::PerfEvent,
        Place::NetNamespace => AttachPoint::NetNamespace,
        Place::Netfilter => AttachPoint::Netfilter,
        Place::Socket => AttachPoint::Socket,
        Place::SockMap => AttachPoint::SockMap,
        Place::Lirc => AttachPoint::Lirc,
        Place::Custom(read) => {
            return match read(rest) {
                Ok(attach) => (attach, None),
                Err(message) => (AttachPoint::None, Some((message, None))),
            };
        }
    };
    (attach, None)
}

/// `action/egress` and `classifier/ingress` are loose names, yet they say a direction.
fn direction_in(text: &str) -> Option<crate::program::Direction> {
    match text {
        "ingress" => Some(crate::program::Direction::Ingress),
        "egress" => Some(crate::program::Direction::Egress),
        _ => None,
    }
}

fn tracepoint(text: &str, stem: &str) -> Read {
    match text.split_once('/') {
        Some((category, name)) => {
            (AttachPoint::Tracepoint { category: category.to_owned(), name: name.to_owned() }, None)
        }
        None if text.is_empty() => (AttachPoint::Tracepoint { category: String::new(), name: String::new() }, None),
        None => {
            // The category of most system call tracepoints can be told from the name.
            let category =
                if text.starts_with("sys_enter_") || text.starts_with("sys_exit_") { "syscalls" } else { "CATEGORY" };
            (
                AttachPoint::Tracepoint { category: String::new(), name: text.to_owned() },
                Some((
                    format!("tracepoint `{text}` has no category"),
                    Some(format!("write SEC(\"{stem}/{category}/{text}\")")),
                )),
            )
        }
    }
}

/// `func`, `func+0x10`, `func+16`.
fn kprobe(text: &str, ret: bool) -> Read {
    let (function, off) = split_offset(text);
    let attach = |off_bytes| AttachPoint::Kprobe { function: function.to_owned(), off_bytes, ret };
    match off {
        None => (attach(0), None),
        Some(Ok(off)) if ret && off != 0 => {
            (attach(off), Some(("a return probe cannot have an offset".to_owned(), None)))
        }
        Some(Ok(off)) => (attach(off), None),
        Some(Err(bad)) => (attach(0), Some((format!("offset `{bad}` is no number"), None))),
    }
}

/// `path:func@ver+off`, `path:0x1234`, `path:+0x1234`, `/path` or `func` alone.
fn uprobe(text: &str, ret: bool) -> Read {
    let (path, symbol) = split_path(text);
    let (function, off) = match number(symbol) {
        Some(off) => ("", Some(Ok(off))),
        None => split_offset(symbol),
    };
    let attach =
        |off_bytes| AttachPoint::Uprobe { path: path.to_owned(), function: function.to_owned(), off_bytes, ret };
    match off {
        None => (attach(0), None),
        Some(Ok(off)) => (attach(off), None),
        Some(Err(bad)) => (attach(0), Some((format!("offset `{bad}` is no number"), None))),
    }
}

fn usdt(text: &str, stem: &str) -> Read {
    let attach = |path: &str, provider: &str, name: &str| AttachPoint::Usdt {
        path: path.to_owned(),
        provider: provider.to_owned(),
        name: name.to_owned(),
    };
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    match parts[..] {
        [name, provider, path] => (attach(path, provider, name), None),
        // A bare SEC("usdt") leaves everything to the caller; a provider and a name leave the binary.
        [name, provider] => (attach("", provider, name), None),
        _ if text.is_empty() => (attach("", "", ""), None),
        _ => (
            attach(text, "", ""),
            Some((format!("`{text}` names no probe"), Some(format!("write SEC(\"{stem}/PATH:PROVIDER:NAME\")")))),
        ),
    }
}

/// Binary and symbol. The colon that parts them is the last one that follows a slash-free symbol, so that paths may hold
/// colons; without a colon the text is a path when it looks like one, else a symbol.
fn split_path(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((path, symbol)) if !symbol.contains('/') => (path, symbol),
        _ if text.contains('/') => (text, ""),
        _ => ("", text),
    }
}

/// Name and offset of `name+off`.
fn split_offset(text: &str) -> (&str, Option<Result<u64, &str>>) {
    match text.split_once('+') {
        Some((name, off)) => (name, Some(number(off).ok_or(off))),
        None => (text, None),
    }
}

/// A number as C writes it: `0x10`, `020`, `16`.
fn number(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}
