//! The running kernel: an XDP program under `BPF_PROG_TEST_RUN`, whose packet is the input. The kernel measures itself, in whole nanoseconds.

use anyhow::Result;
use skep::{Object, TestRun};

use crate::{Measured, once};

/// Runs of one call.
const REPEAT: u32 = 10_000;

pub(super) fn measure(object: &[u8], input: &[u8], batches: u32) -> Result<Measured> {
    let load = || Ok(Object::from_bytes("program", object)?.load()?);
    let compile_ns = once(5, load)?;
    let loaded = load()?;
    let program = loaded.program("program")?;
    let mut least = u128::MAX;
    let mut result = 0;
    for _ in 0..batches {
        let output = program.test_run(&TestRun { data: input, repeat: REPEAT, ..TestRun::default() })?;
        least = least.min(output.duration.as_nanos());
        result = output.retval.into();
    }
    Ok(Measured { result, ns: least as f64, compile_ns })
}
