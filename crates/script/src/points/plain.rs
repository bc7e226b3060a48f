//! Probes that happen to nothing: begin, end, signals, tests.

use super::{Asked, Found, Point, Provider};
use crate::plan::Attach;
use crate::points::Resolver;
use crate::typed::{Context, Place};

/// Signals that a process may handle and that mean nothing to a tracer yet (`SIGINT` and `SIGTERM` end it).
const SIGNALS: [&str; 3] = ["SIGUSR1", "SIGUSR2", "SIGHUP"];

impl Resolver<'_> {
    pub(super) fn plain(&self, asked: Asked<'_>) -> Found {
        let name = |rest: &str| format!("{}{rest}", asked.provider.name());
        let (name, attach, context) = match (asked.provider, asked.parts) {
            (Provider::Begin, _) => (name(""), Attach::Begin, Context::None),
            (Provider::End, _) => (name(""), Attach::End, Context::None),
            (Provider::Signal, ["signal", signal]) => {
                if !SIGNALS.contains(signal) {
                    let error = asked.error(format!("{signal} is not supported"));
                    return Err(Box::new(error.with_hint(format!("signals are {}", SIGNALS.join(", ")))));
                }
                (name(&format!(":signal:{signal}")), Attach::Signal((*signal).to_owned()), Context::None)
            }
            (Provider::Signal, parts) => {
                let error = asked.error(format!("{} is not supported by self", parts.first().unwrap_or(&"")));
                return Err(Box::new(error.with_hint("write self:signal:SIGUSR1")));
            }
            (provider, parts) => {
                let test = parts.first().copied().unwrap_or_default();
                let bench = provider == Provider::Bench;
                (name(&format!(":{test}")), Attach::Test { name: test.to_owned(), bench }, Context::Xdp)
            }
        };
        // What runs once is run by a test call, which raw tracepoints take with no packet to make up.
        let section = if context == Context::Xdp { "xdp" } else { "raw_tracepoint" };
        Ok(vec![Point {
            provider: asked.provider,
            place: Place { name, func: None, attach },
            context,
            section: section.to_owned(),
            family: Some(section),
        }])
    }
}
