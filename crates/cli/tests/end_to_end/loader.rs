//! Objects with a loader program behind them: built, loaded and run.

use std::ffi::OsStr;

use skep_sys::version::KernelVersion;

use crate::support::needs::Need::{Clang, Root};
use crate::support::programs::{case, corpus};
use crate::support::skep::call;
use crate::support::{Skep, needs, scratch};

fn kernel_5_17() -> bool {
    let enough = KernelVersion::running() >= KernelVersion::new(5, 17, 0);
    if !enough {
        println!("skipped: needs kernel 5.17");
    }
    enough
}

#[test]
fn an_object_is_loaded_by_its_loader_program_and_takes_settings() {
    if !needs(&[Root, Clang]) || !kernel_5_17() {
        return;
    }
    let folder = scratch("loader-run");
    let file = folder.join("burst.lskel");
    let out =
        call(&[OsStr::new("build"), case("burst").as_os_str(), "--loader".as_ref(), "-o".as_ref(), file.as_ref()]);
    assert!(out.status.success(), "{}", out.stderr);
    let out = call(&[OsStr::new("load"), file.as_os_str()]);
    assert!(out.status.success() && out.stdout.starts_with("ok "), "{}{}", out.stdout, out.stderr);
    let pid = std::process::id().to_string();
    let skep = Skep::run(&[file.as_os_str(), "--caller".as_ref(), pid.as_ref()]);
    for _ in 0..3 {
        let _ = rustix::process::getpgid(None);
    }
    skep.line("the third event", |line| line.split_whitespace().nth(1) == Some("2") && line.contains(&pid));
    let outcome = skep.stop();
    assert!(outcome.counts().0 >= 3, "{}", outcome.stderr);
    // What only an object can do is said.
    let out = call(&[OsStr::new("run"), file.as_os_str(), "--prog".as_ref(), "burst".as_ref()]);
    assert!(!out.status.success() && out.stderr.contains("all or nothing"), "{}", out.stderr);
    let mut bytes = std::fs::read(&file).expect("it was written");
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("the scratch folder takes files");
    let out = call(&[OsStr::new("load"), file.as_os_str()]);
    assert!(!out.status.success() && out.stderr.contains("damaged"), "{}", out.stderr);
}

#[test]
fn compiled_objects_with_co_re_get_loader_programs_and_what_cannot_is_named() {
    if !needs(&[Root]) || !kernel_5_17() {
        return;
    }
    let folder = scratch("loader-build");
    let build = |name: &str| {
        let file = folder.join(format!("{name}.lskel"));
        let object = corpus("clang19-el", name);
        let out = call(&[OsStr::new("build"), object.as_os_str(), "--loader".as_ref(), "-o".as_ref(), file.as_ref()]);
        (file, out)
    };
    for name in ["core_fields", "globals", "iter", "callbacks", "kconfig"] {
        let (file, out) = build(name);
        assert!(out.status.success(), "{}", out.stderr);
        let out = call(&[OsStr::new("load"), file.as_os_str()]);
        assert!(out.status.success() && out.stdout.contains("ok "), "{name}: {}{}", out.stdout, out.stderr);
    }
    let (_, out) = build("freplace");
    assert!(!out.status.success() && out.stderr.contains("replace a function"), "{}", out.stderr);
    assert!(out.stderr.contains("load the object itself"), "{}", out.stderr);
}
