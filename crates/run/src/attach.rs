//! Programs of a session: those that must have loaded, where they go, and how they are let go.

use std::io::Write;

use skep_engine::{AttachOptions, Link, ProgId, Session};
use skep_sys::undo::Guard;

use crate::plan::Job;
use crate::{Error, ErrorKind, Notice};

/// Fails when a program did not load and nothing else does its job.
pub(crate) fn refuse_failed(
    session: &dyn Session,
    jobs: &[Job],
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<(), Error> {
    let loaded = |id| session.programs().iter().any(|program| program.program == id && program.result.is_ok());
    let any = jobs.iter().any(|job| job.alternatives.iter().any(|id| loaded(*id)));
    for program in session.programs() {
        let Err(error) = &program.result else { continue };
        let job = jobs.iter().find(|job| job.alternatives.contains(&program.program));
        let covered = job.is_some_and(|job| job.alternatives.iter().any(|id| loaded(*id)));
        let absent = matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported);
        if covered || (absent && any) {
            let name = &session.spec().program(program.program).name;
            notice(Notice::Idle { program: name, reason: error.to_string() });
        } else {
            return Err(error.clone());
        }
    }
    Ok(())
}

/// Attaches the first alternative of every job that can be.
pub(crate) fn attach(
    session: &dyn Session,
    jobs: &[Job],
    options: &AttachOptions,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Vec<Box<dyn Link>>, Error> {
    let mut links: Vec<Box<dyn Link>> = Vec::new();
    let mut absent: Vec<(&str, Error)> = Vec::new();
    for job in jobs {
        let mut refused = None;
        for id in &job.alternatives {
            if !session.programs().iter().any(|program| program.program == *id && program.result.is_ok()) {
                continue;
            }
            let name = &session.spec().program(*id).name;
            match session.attach(*id, options) {
                Ok(link) => {
                    notice(Notice::Attached { program: name, place: link.describe() });
                    for note in link.notes() {
                        notice(Notice::Warning { message: format!("`{name}`: {note}"), hint: None });
                    }
                    links.push(link);
                    refused = None;
                    break;
                }
                Err(error) => refused = Some((name.as_str(), error)),
            }
        }
        match refused {
            Some((name, error)) if matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported) => {
                absent.push((name, error));
            }
            Some((_, error)) => return Err(error),
            None => {}
        }
    }
    if links.is_empty()
        && let Some((_, error)) = absent.pop()
    {
        return Err(error);
    }
    for (name, error) in absent {
        notice(Notice::Idle { program: name, reason: error.to_string() });
    }
    Ok(links)
}

/// Detaches everything without waiting for the kernel where that would take long: a helper holds those descriptors too, and so
/// it is the one who closes them last. It ends with that, or when this process is killed before.
pub(crate) fn detach(links: Vec<Box<dyn Link>>) {
    let (slow, others): (Vec<_>, Vec<_>) = links.into_iter().partition(|link| !link.slow_to_close().is_empty());
    drop(others);
    let descriptors: Vec<_> = slow.iter().flat_map(|link| link.slow_to_close()).collect();
    // Without a helper we wait ourselves.
    let helper = if descriptors.is_empty() { None } else { Guard::keep(&descriptors).ok() };
    drop(descriptors);
    drop(slow);
    if let Some(helper) = helper {
        helper.dismiss();
    }
}

/// Runs an iterator and prints its text.
pub(crate) fn iterate(
    session: &dyn Session,
    id: ProgId,
    options: &AttachOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut text = session.iterate(id, options)?;
    match std::io::copy(&mut text, out).and_then(|_| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            let name = &session.spec().program(id).name;
            Err(Error::new(format!("iterator `{name}`: {}", skep_sys::io_text(&cause))))
        }
        _ => Ok(()),
    }
}
