//! `cargo xtask ci`: `test`, judged as in CI.

/// Runs [`crate::test`] with `CI` set, as continuous integration does.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let exe = std::env::current_exe()?;
    crate::sh::run(std::process::Command::new(exe).arg("test").args(args).env("CI", "true"))
}
