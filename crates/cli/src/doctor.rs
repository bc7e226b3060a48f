//! `skep doctor`.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;
use skep_engine::Error;
use skep_kernel::{KernelEngine, LiveTarget};
use skep_run::doctor::{Finding, Report, examine};

use crate::args::DoctorArgs;
use crate::report::cannot_write;

pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, Error> {
    let report = examine(&KernelEngine::new(), &LiveTarget::shared());
    let mut text = Vec::new();
    if args.json {
        let _ = writeln!(text, "{}", to_json(&report));
    } else {
        let _ = write_text(&report, &mut text);
    }
    std::io::stdout().write_all(&text).or_else(cannot_write)?;
    Ok(ExitCode::SUCCESS)
}

fn to_json(report: &Report) -> serde_json::Value {
    let kinds = report.kinds.iter().map(|finding| {
        json!({
            "kind": finding.name,
            "works": finding.result.is_ok(),
            "attached": matches!(finding.result, Ok(true)),
            "reason": finding.result.as_ref().err(),
            "hint": finding.hint,
        })
    });
    json!({
        "kernel": report.kernel,
        "btf_bytes": report.btf_bytes,
        "lockdown": report.lockdown,
        "clang": report.clang.as_ref().ok(),
        "missing_capabilities": report.missing_caps,
        "kinds": kinds.collect::<Vec<_>>(),
    })
}

fn write_text(report: &Report, out: &mut Vec<u8>) -> std::io::Result<()> {
    let btf = match report.btf_bytes {
        Some(bytes) => format!("yes ({:.1} MB)", bytes as f64 / 1e6),
        None => "no".into(),
    };
    let clang = report.clang.as_deref().unwrap_or("none");
    writeln!(
        out,
        "kernel {}   BTF {btf}   lockdown {}   compiler {clang}",
        report.kernel,
        report.lockdown.unwrap_or("unknown"),
    )?;
    if !report.missing_caps.is_empty() {
        writeln!(out, "no rights: {} missing; start skep with sudo", report.missing_caps.join(", "))?;
    }
    if let Err(reason) = &report.clang {
        writeln!(out, "no compiler: {reason}")?;
    }
    let working: Vec<&str> = report.kinds.iter().filter(|f| f.result.is_ok()).map(|f| f.name).collect();
    if working.is_empty() {
        // Whatever the kernel says.
        writeln!(
            out,
            "ok   commands (`-c`), processes (`-p`) and files of packets (`--pcap`), by the machine in user space"
        )?;
    } else {
        writeln!(out, "ok   {}", working.join(" "))?;
    }
    // Without rights every kind is refused for the same reason, which stands above.
    let hidden = |finding: &Finding| finding.denied && !report.missing_caps.is_empty();
    let denied: Vec<&str> = report.kinds.iter().filter(|finding| hidden(finding)).map(|finding| finding.name).collect();
    if !denied.is_empty() {
        writeln!(out, "?    {} (not known without the rights)", denied.join(" "))?;
    }
    for finding in report.kinds.iter().filter(|finding| !hidden(finding)) {
        let Err(reason) = &finding.result else { continue };
        write!(out, "no   {:<11} {reason}", finding.name)?;
        match finding.hint {
            Some(hint) => writeln!(out, "   -> {hint}")?,
            None => writeln!(out)?,
        }
    }
    let command = if working.is_empty() { " -c ls" } else { "" };
    writeln!(out, "try: skep run examples/execsnoop.bpf.c{command}")
}
