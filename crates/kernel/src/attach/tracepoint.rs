//! Tracepoints: `tp/category/name`.

use skep_engine::Error;
use skep_spec::nearest::{did_you_mean, nearest};
use skep_sys::Errno;
use skep_sys::caps::Cap;
use skep_sys::perf_event::PerfEvent;
use skep_sys::tracefs::Tracefs;

use super::attachment::Attachment;
use super::perf_link;
use super::request::Request;

pub(super) fn attach(request: &Request<'_>, category: &str, name: &str) -> Result<Attachment, Error> {
    let what = format!("tracepoint {category}:{name}");
    let tracefs = Tracefs::shared()
        .map_err(|errno| request.refused("cannot look at tracefs for its number", errno, &[Cap::SYS_ADMIN]))?;
    let id = match tracefs.id(category, name) {
        Ok(id) => id,
        Err(Errno::ENOENT) => return Err(absent(request, tracefs, category, name)),
        Err(errno) => return Err(request.refused(format_args!("cannot read the number of {what}"), errno, &[])),
    };
    let event = PerfEvent::tracepoint(id)
        .map_err(|errno| request.refused(format_args!("cannot open {what}"), errno, &[Cap::PERFMON]))?;
    let hold = perf_link::attach_off(request, event, request.options.cookie, &what)?;
    Ok(Attachment::new(what, hold))
}

/// That there is no such tracepoint, with those that are near.
fn absent(request: &Request<'_>, tracefs: &Tracefs, category: &str, name: &str) -> Error {
    let error = request.absent(format_args!("this kernel has no tracepoint {category}:{name}"));
    // Misspelt within its category, or in another category, or in a misspelt one.
    if let Ok(events) = tracefs.events(category) {
        let near = nearest(name, events.iter().map(String::as_str));
        let near: Vec<String> = near.iter().map(|name| format!("{category}:{name}")).collect();
        if !near.is_empty() {
            return error.with_hint(format!("did you mean {}?", near.join(" or ")));
        }
    }
    let categories = tracefs.categories().unwrap_or_default();
    let holders: Vec<&String> = categories.iter().filter(|category| tracefs.id(category, name).is_ok()).collect();
    if !holders.is_empty() {
        let names: Vec<String> = holders.iter().map(|category| format!("{category}:{name}")).collect();
        return error.with_hint(format!("did you mean {}?", names.join(" or ")));
    }
    // The category exists, and nothing in it is near: only the whole list helps.
    match did_you_mean(category, categories.iter().map(String::as_str)) {
        Some(hint) if !categories.iter().any(|other| other == category) => error.with_hint(hint),
        _ => {
            let mut events = tracefs.events(category).unwrap_or_default();
            let more = if events.len() > 8 { ", .." } else { "" };
            events.truncate(8);
            if events.is_empty() {
                return error.with_hint(format!("it has the categories {}", categories.join(", ")));
            }
            error.with_hint(format!("{category} has {}{more}", events.join(", ")))
        }
    }
}
