//! The section-name table: what `SEC("...")` says about a program.
//!
//! A program's section is a small language of its own: `SEC("?fentry.s/vfs_read")` is a type (`fentry`), a flag
//! (sleepable), a place (`vfs_read`) and a wish (do not load unless asked). The built-in rows are libbpf's `section_defs`
//! (`src/libbpf.c`, 1.8) as data, see [`BUILTIN`]. A pattern matches in one of three ways, as in libbpf's
//! `sec_def_matches`:
//!
//! | pattern | matches |
//! | --- | --- |
//! | `xdp` | the name itself |
//! | `tp+` | `tp`, or `tp/` followed by anything |
//! | `thing/` | `thing/` followed by anything, never `thing` alone |
//!
//! The first row that matches wins. When none does, the longest pattern that begins the name is taken *loosely*, with a
//! warning, if a character follows that cannot continue the word: `xdp_prog`, `classifier/from-netdev`, `action/egress`,
//! `socket1`, `kprobe__foo`. Old objects use such names, and loaders before libbpf 1.0 took them. What still has no row is
//! left untyped, with the nearest name as a hint, and only loading such a program fails.
//!
//! Users add rows of their own with [`SectionTable::define`]; these go before the built-in ones.

use std::borrow::Cow;

use crate::nearest::nearest;
use crate::program::{AttachPoint, AttachType, Direction, ProgType};

mod builtin;
pub(crate) mod place;

pub use builtin::BUILTIN;

/// `BPF_F_SLEEPABLE` (include/uapi/linux/bpf.h).
pub const BPF_F_SLEEPABLE: u32 = 1 << 4;
/// `BPF_F_XDP_HAS_FRAGS` (include/uapi/linux/bpf.h).
pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct SectionDef {
    /// What it matches, see the module's text.
    pub pattern: Cow<'static, str>,
    /// Program type.
    pub prog_type: ProgType,
    /// `expected_attach_type` of the load.
    pub attach_type: Option<AttachType>,
    /// Old kernels without `expected_attach_type` cannot take such a program (not libbpf's `SEC_EXP_ATTACH_OPT`).
    pub attach_type_required: bool,
    /// `prog_flags` of the load.
    pub flags: u32,
    /// How the rest of the name says where the program attaches.
    pub place: Place,
}

/// How the part after the slash is read.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the attach point of the same name")]
pub enum Place {
    /// There is no such part, or it means nothing.
    None,
    Tracepoint,
    RawTracepoint,
    BtfTracepoint,
    Kprobe {
        ret: bool,
    },
    KprobeMulti(crate::program::MultiWhen),
    Ksyscall {
        ret: bool,
    },
    Uprobe {
        ret: bool,
    },
    UprobeMulti(crate::program::MultiWhen),
    Usdt,
    Function,
    FunctionMulti,
    Freplace,
    Lsm,
    Iter,
    StructOps,
    Xdp,
    Tc(Option<Direction>),
    Netkit,
    Cgroup,
    PerfEvent,
    NetNamespace,
    Netfilter,
    Socket,
    SockMap,
    Lirc,
    /// A user's own: the function gets what follows the slash, if anything does.
    Custom(fn(Option<&str>) -> Result<AttachPoint, String>),
}

/// What a section name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionMeaning {
    /// Program type; [`ProgType::UNSPEC`] when no row matches.
    pub prog_type: ProgType,
    /// `expected_attach_type` of the load.
    pub attach_type: Option<AttachType>,
    /// See [`SectionDef::attach_type_required`].
    pub attach_type_required: bool,
    /// `prog_flags` of the load.
    pub flags: u32,
    /// Where the program attaches, as far as the name says.
    pub attach: AttachPoint,
    /// What is odd about the name, and what to write instead.
    pub warning: Option<(String, Option<String>)>,
}

/// The rows in force: a user's own, then the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct SectionTable {
    own: Vec<SectionDef>,
}

impl SectionTable {
    /// The built-in rows alone.
    pub fn new() -> SectionTable {
        SectionTable::default()
    }

    /// Adds a row in front of the built-in ones and behind those added earlier.
    ///
    /// # Example: programs for a machine in user space
    ///
    /// ```
    /// use skep_spec::program::{AttachPoint, ProgType};
    /// use skep_spec::section::{Place, SectionDef, SectionTable};
    ///
    /// let mut table = SectionTable::new();
    /// table.define(SectionDef {
    ///     pattern: "timer/".into(),
    ///     prog_type: ProgType(1000),
    ///     attach_type: None,
    ///     attach_type_required: false,
    ///     flags: 0,
    ///     place: Place::Custom(|rest| Ok(AttachPoint::Custom { place: rest.unwrap_or_default().to_owned() })),
    /// });
    /// let meaning = table.lookup("timer/100ms");
    /// assert_eq!(meaning.attach, AttachPoint::Custom { place: "100ms".to_owned() });
    /// ```
    pub fn define(&mut self, row: SectionDef) {
        self.own.push(row);
    }

    /// The rows in the order in which they are tried.
    pub fn rows(&self) -> impl Iterator<Item = &SectionDef> {
        self.own.iter().chain(BUILTIN)
    }

    /// What `name` (without a leading `?`) says. Never fails: see [`SectionMeaning::warning`].
    pub fn lookup(&self, name: &str) -> SectionMeaning {
        if let Some((row, rest)) = self.rows().find_map(|row| Some((row, strict_match(&row.pattern, name)?))) {
            return meaning(row, rest, None);
        }
        let loose = self
            .rows()
            .filter_map(|row| Some((row, loose_match(&row.pattern, name)?)))
            .max_by_key(|(row, _)| (stem(&row.pattern).len(), !row.pattern.ends_with('+')));
        if let Some((row, rest)) = loose {
            let better = match (stem(&row.pattern), name.split_once('/')) {
                // The direction is worth keeping.
                ("action" | "classifier", Some((_, "ingress"))) => "tc/ingress",
                ("action" | "classifier", Some((_, "egress"))) => "tc/egress",
                (stem, _) => stem,
            };
            let hint = format!("write SEC(\"{better}\")");
            let warning = (
                format!("section name is taken loosely, as {}", describe(row)),
                (!row.pattern.ends_with('+')).then_some(hint),
            );
            return meaning(row, rest, Some(warning));
        }
        if let Some(found) = self.family(name) {
            return found;
        }
        let names: Vec<&str> = self.rows().map(|row| stem(&row.pattern)).collect();
        let first = name.split('/').next().unwrap_or(name);
        let near = |wanted| nearest(wanted, names.iter().copied()).first().copied();
        let hint = near(first).or_else(|| near(name)).map(|near| match name.split_once('/') {
            Some((head, rest)) if head == first && !near.contains('/') => {
                format!("did you mean SEC(\"{near}/{rest}\")?")
            }
            _ => format!("did you mean SEC(\"{near}\")?"),
        });
        SectionMeaning {
            prog_type: ProgType::UNSPEC,
            attach_type: None,
            attach_type_required: false,
            flags: 0,
            attach: AttachPoint::None,
            warning: Some((format!("section name `{name}` says no program type"), hint)),
        }
    }
}

impl SectionTable {
    /// `cgroup_skb` or `tcx` alone: every row under that name has one program type, so that much is known.
    fn family(&self, name: &str) -> Option<SectionMeaning> {
        let mut rows =
            self.rows().filter(|row| stem(&row.pattern).strip_prefix(name).is_some_and(|rest| rest.starts_with('/')));
        let first = rows.next()?;
        let mut choices = vec![format!("SEC(\"{}\")", stem(&first.pattern))];
        for row in rows {
            if row.prog_type != first.prog_type {
                return None;
            }
            choices.push(format!("SEC(\"{}\")", stem(&row.pattern)));
        }
        let attach = match &first.place {
            Place::Tc(_) => AttachPoint::Tc { direction: None },
            place => place::read(place, None, name).0,
        };
        Some(SectionMeaning {
            prog_type: first.prog_type,
            attach_type: None,
            attach_type_required: false,
            flags: 0,
            attach,
            warning: Some((
                "section name does not say where it attaches".to_owned(),
                Some(format!("write {}", choices.join(" or "))),
            )),
        })
    }
}

fn describe(row: &SectionDef) -> String {
    format!("`{}`", stem(&row.pattern))
}

fn meaning(row: &SectionDef, rest: Option<&str>, warning: Option<(String, Option<String>)>) -> SectionMeaning {
    let (attach, place_warning) = place::read(&row.place, rest, stem(&row.pattern));
    SectionMeaning {
        prog_type: row.prog_type,
        attach_type: row.attach_type,
        attach_type_required: row.attach_type_required,
        flags: row.flags,
        attach,
        warning: warning.or(place_warning),
    }
}

/// The name that a pattern stands for.
fn stem(pattern: &str) -> &str {
    pattern.trim_end_matches(['+', '/'])
}

/// `Some(what follows the slash)` when `name` matches.
fn strict_match<'a>(pattern: &str, name: &'a str) -> Option<Option<&'a str>> {
    if let Some(stem) = pattern.strip_suffix('+') {
        let rest = name.strip_prefix(stem)?;
        return if rest.is_empty() { Some(None) } else { rest.strip_prefix('/').map(Some) };
    }
    if pattern.ends_with('/') {
        return name.strip_prefix(pattern).map(Some);
    }
    (name == pattern).then_some(None)
}

/// As [`strict_match`], for names that only begin like the pattern.
fn loose_match<'a>(pattern: &str, name: &'a str) -> Option<Option<&'a str>> {
    let rest = name.strip_prefix(stem(pattern))?;
    match rest.chars().next() {
        None => Some(None),
        Some('/') => Some(rest.get(1..)),
        Some(next) if next.is_ascii_alphabetic() => None,
        Some(_) => Some(None),
    }
}

#[cfg(test)]
mod tests;
