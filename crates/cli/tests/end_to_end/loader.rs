//! Objects with a loader program behind them: built, loaded and run.

use std::ffi::OsStr;

use skep_sys::version::KernelVersion;

use crate::support::needs::Need::{Clang, Program, Root};
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
        let loads = out.status.success() && out.stdout.contains("ok ");
        if !loads {
            // A kernel that lets nobody walk over the elements of maps refuses the object itself, too.
            let alone = call(&[OsStr::new("load"), corpus("clang19-el", name).as_os_str()]);
            let refused = alone.stdout.contains("elements (iter/bpf_map_elem)") && alone.stdout.contains("EPERM");
            assert!(name == "iter" && refused, "{name}: {}{}", out.stdout, out.stderr);
            assert!(out.stderr.contains("`elements` (iter/bpf_map_elem)"), "{}", out.stderr);
        }
    }
    let (_, out) = build("freplace");
    assert!(!out.status.success() && out.stderr.contains("replace a function"), "{}", out.stderr);
    assert!(out.stderr.contains("load the object itself"), "{}", out.stderr);
}

/// What `--to-sign` writes is signed by whoever has the key, with the tool of their choice, and the kernel gets the signature.
#[test]
fn a_loader_program_is_sealed_and_signed() {
    if !needs(&[Root, Program("openssl")]) {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 18, 0) {
        println!("skipped: needs kernel 6.18");
        return;
    }
    let folder = scratch("loader-seal");
    let path = |name: &str| folder.join(name).display().to_string();
    let object = corpus("clang19-el", "core_fields").display().to_string();
    let build = |options: &[&str], file: &str| {
        let out = call(&[&["build", &object, "--loader"], options, &["-o", file]].concat());
        assert!(out.status.success(), "{}", out.stderr);
    };
    let (plain, code, signature) = (path("sealed.lskel"), path("code"), path("signature"));
    build(&["--to-sign", &code], &plain);
    let out = call(&["load", &plain]);
    assert!(out.status.success() && out.stdout.contains("ok "), "{}{}", out.stdout, out.stderr);

    let (key, certificate) = (path("key.pem"), path("cert.pem"));
    let openssl = |words: &[&str]| {
        let out = std::process::Command::new("openssl").args(words).output().expect("openssl starts");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-days",
        "2",
        "-subj",
        "/CN=skep",
    ]);
    let mut sign = vec!["cms", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "DER", "-md", "sha256"];
    sign.extend(["-signer", &certificate, "-inkey", &key, "-in", &code, "-out", &signature]);
    openssl(&sign);
    let signed = path("signed.lskel");
    build(&["--signature", &signature], &signed);
    // The signature is about what the kernel is given: both files hold the same instructions.
    let code = std::fs::read(&code).expect("it was written");
    for file in [&plain, &signed] {
        let bytes = std::fs::read(file).expect("it was written");
        assert!(bytes.windows(code.len()).any(|window| window == code), "{file}");
    }
    // No keyring has this certificate; a kernel that cannot check at all says so.
    let out = call(&["load", &signed]);
    assert_eq!(out.status.code(), Some(1), "{}", out.stdout);
    let known = ["EOPNOTSUPP", "ENOKEY"].iter().any(|errno| {
        out.stderr.starts_with("error: the kernel does not take the signature of the loader program")
            && out.stderr.contains(errno)
    });
    assert!(known && out.stderr.contains("= help: "), "{}", out.stderr);
    let out = call(&["build", &object, "--loader", "--signature", &certificate, "-o", &path("text.lskel")]);
    assert!(!out.status.success() && out.stderr.contains("is no signature in DER"), "{}", out.stderr);
    let same = path("same");
    let out = call(&["build", &object, "--loader", "--to-sign", &same, "-o", &same]);
    assert!(!out.status.success() && out.stderr.contains("the object and what is to be signed"), "{}", out.stderr);
    assert!(!std::path::Path::new(&same).exists());
    // What depends on the machine that loads cannot be sealed.
    let kconfig = corpus("clang19-el", "kconfig").display().to_string();
    let out = call(&["build", &kconfig, "--loader", "--seal", "-o", &path("kconfig.lskel")]);
    assert!(
        !out.status.success() && out.stderr.contains("cannot hold values of the kernel's configuration"),
        "{}",
        out.stderr
    );
    let _ = std::fs::remove_dir_all(&folder);
}
