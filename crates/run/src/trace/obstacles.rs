//! What keeps kinds of probes, and single events of the processor, from being attached on this machine: by trying.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use skep_engine::{Engine, LoadOptions};
use skep_script::compile::{Compiled, compile};
use skep_script::{Options, Severity, Sources, Target};

use super::parameters::{self, Known};
use super::{Script, attach};
use crate::Error;

/// How many events of the processor are one for the trial.
const HARDWARE_EVERY: &str = "1000000";

/// Reasons by what was tried; nothing for what can be attached.
#[derive(Debug, Default)]
pub struct Obstacles(HashMap<String, String>);

impl Obstacles {
    /// Attaches an empty program at one probe of each kind that these names have, and at each event of the processor, and
    /// lets go of it at once. Nothing is an obstacle to whoever may attach nothing at all: that is not the machine's doing.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>, target: &dyn Target, engine: &dyn Engine) -> Obstacles {
        let mut tried: HashMap<String, Option<String>> = HashMap::new();
        for name in names {
            let Some((key, place)) = trial(name) else { continue };
            if tried.is_empty() && refusal("interval:s:1", target, engine).is_some() {
                return Obstacles::default();
            }
            tried.entry(key).or_insert_with(|| refusal(&place, target, engine));
        }
        Obstacles(tried.into_iter().filter_map(|(key, reason)| Some((key, reason?))).collect())
    }

    /// Each reason once, behind the kinds of probes or the events that it stands against.
    pub fn reasons<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<(String, &str)> {
        let mut reasons: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for name in names {
            if let Some((key, reason)) = trial(name).and_then(|(key, _)| self.0.get_key_value(&key)) {
                reasons.entry(reason).or_default().insert(key.trim_end_matches(':').to_owned());
            }
        }
        let joined = |keys: BTreeSet<String>| keys.into_iter().collect::<Vec<_>>().join(", ");
        reasons.into_iter().map(|(reason, keys)| (joined(keys), reason)).collect()
    }

    /// Why the probe of this name cannot be attached; `None` when nothing is known against it.
    pub fn against(&self, name: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&trial(name)?.0).map(String::as_str)
    }
}

/// What a probe is tried as, and where: for kernel functions at one that every kernel has, since some may not be probed.
/// `None` for kinds that every kernel takes.
fn trial(name: &str) -> Option<(String, String)> {
    let kind = name.split(':').next().unwrap_or_default();
    let place = match kind {
        "kprobe" | "kretprobe" => format!("{kind}:vfs_read"),
        "fentry" | "fexit" => format!("{kind}:vmlinux:vfs_read"),
        "rawtracepoint" => format!("{kind}:sched_process_exec"),
        "hardware" => return Some((name.to_owned(), format!("{name}{HARDWARE_EVERY}"))),
        _ => return None,
    };
    Some((kind.to_owned(), place))
}

/// Why a probe cannot be attached; `None` when it can.
fn refusal(place: &str, target: &dyn Target, engine: &dyn Engine) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("trial", format!("{place} {{ }}"));
    let Compiled { spec, plan, diagnostics } = compile(&mut sources, id, &Options::default(), target);
    if let Some(error) = diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error) {
        return Some(error.message.clone());
    }
    let text = try_attach(Script { spec, plan, sources }, engine).err()?.to_string();
    // The reason stands behind the program's name and section.
    let reason = text.split_once("): ").map_or(text.as_str(), |(_, reason)| reason);
    // Which event it is says the probe's name, in words.
    Some(reason.split_once(HARDWARE_EVERY).map_or(reason, |(_, reason)| reason.trim_start_matches(": ")).to_owned())
}

fn try_attach(script: Script, engine: &dyn Engine) -> Result<(), Error> {
    let Script { mut spec, plan, .. } = script;
    parameters::fill(&mut spec, &plan.parameters, Known::default());
    let session = engine.load(spec, &LoadOptions::default())?;
    if let Some(error) = session.programs().iter().find_map(|program| program.result.as_ref().err()) {
        return Err(error.clone());
    }
    let attached = attach::attach(&*session, &plan, None, &mut |_| {})?;
    crate::attach::detach(attached.links.into_iter().map(|(_, link)| link).collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_for_a_kind_or_for_the_events_that_have_it() {
        let known = [("kprobe", "absent"), ("hardware:a:", "no counter"), ("hardware:c:", "no counter")];
        let obstacles = Obstacles(known.map(|(key, reason)| (key.to_owned(), reason.to_owned())).into());
        let all = ["kprobe:f", "kprobe:g", "hardware:a:", "hardware:b:", "hardware:c:", "tracepoint:s:x"];
        let expected = [("kprobe".to_owned(), "absent"), ("hardware:a, hardware:c".to_owned(), "no counter")];
        assert_eq!(obstacles.reasons(all), expected);
        assert_eq!(obstacles.reasons(["hardware:b:"]), []);
    }

    #[test]
    fn events_are_tried_one_by_one_and_functions_as_a_kind() {
        let text = |name: &str| trial(name).map(|(key, place)| format!("{key} at {place}"));
        assert_eq!(text("kprobe:no_such").as_deref(), Some("kprobe at kprobe:vfs_read"));
        assert_eq!(text("hardware:cycles:").as_deref(), Some("hardware:cycles: at hardware:cycles:1000000"));
        assert_eq!(text("tracepoint:sched:sched_switch"), None);
    }
}
