//! Scripts on skep beside the distribution's bpftrace, in turns, on the same load.
//!
//! Both run under the name `bpftrace`, since that name's line for "everything is attached" is the same for both. bpftrace needs
//! tracefs, so everything happens in a mount namespace of its own that has one.

mod events;
mod output;
mod start;
mod tracer;

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// Set when the namespace is there already.
const INSIDE: &str = "SKEP_BENCH_TRACEFS";
const TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$0\" \"$@\"";

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", TRACEFS]).arg(program);
        return Err(command.args(["bench", "trace"]).env(INSIDE, "1").exec())
            .with_context(|| format!("cannot run `{}`", sh::line(&command)));
    }
    let tracers = tracer::both()?;
    let mut good = start::bench(&tracers)?;
    good &= events::bench(&tracers)?;
    good &= output::bench(&tracers)?;
    Ok(good)
}

/// What stands behind a figure and its limit.
fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "BEYOND" }
}
