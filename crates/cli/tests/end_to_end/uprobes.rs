//! Programs on functions of user space.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::needs::Need::{Program, Root};
use crate::support::network::Cable;
use crate::support::{Skep, example, needs, scratch};

#[test]
fn lines_typed_into_bash_are_shown() {
    if !needs(&[Root, Program("bash"), Program("script")]) {
        return;
    }
    let skep = Skep::run(&[example("bashreadline")]);
    // bash reads with readline only from a terminal, which `script` makes.
    let mut bash = Command::new("script")
        .args(["-q", "-c", "bash --norc -i", "/dev/null"])
        .env("PS1", "$ ")
        .env("HISTFILE", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is script");
    let mut keyboard = bash.stdin.take().expect("it is piped");
    keyboard.write_all(b"echo hello from bash\nexit\n").expect("script reads");
    let row = skep.line("with the command", |line| line.trim_end().ends_with("echo hello from bash"));
    let words: Vec<&str> = row.split_whitespace().collect();
    // TIME PID PPID PATH COMMAND
    assert_eq!(words.len(), 8, "{row}");
    assert!(words[0].matches(':').count() == 2 && words[1].parse::<u32>().is_ok(), "{row}");
    assert_eq!(words[3], std::env::current_dir().unwrap().to_str().unwrap(), "{row}");
    let header = skep.lines()[0].clone();
    assert_eq!(header.split_whitespace().collect::<Vec<_>>(), ["TIME", "PID", "PPID", "PATH", "COMMAND"]);
    drop(keyboard);
    bash.wait().expect("our own child can be waited for");
    skep.stop();
}

/// A certificate, a server and a client, all of them openssl's; the text is what the client's SSL_write gets.
#[test]
fn text_before_its_encryption_is_shown() {
    if !needs(&[Root, Program("openssl"), Program("ip")]) {
        return;
    }
    let dir = scratch("ssl");
    let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=skep", "-config", "/dev/null", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let skep = Skep::run(&[example("uprobe_ssl_write")]);
    let cable = Cable::new();
    let enter = cable.near.enter();
    let mut server = Command::new(&enter[0])
        .args(&enter[1..])
        .args(["openssl", "s_server", "-quiet", "-accept", "4433", "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut found = false;
    for _ in 0..100 {
        let mut client = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["openssl", "s_client", "-connect", "127.0.0.1:4433"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        // The client may be gone already: nobody listens yet.
        let _ = client.stdin.take().expect("it is piped").write_all(b"GET /secret HTTP/1.0\n");
        let _ = client.wait();
        found = skep.lines().iter().any(|line| line.contains("openssl") && line.contains("GET /secret HTTP/1.0"));
        if found {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let _ = server.kill();
    let _ = server.wait();
    assert!(found, "{:?}", skep.lines());
    skep.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

/// A function that the file does not have: the names that come near are in the message.
#[test]
fn a_function_that_the_binary_lacks_is_an_error_with_the_nearest() {
    if !needs(&[Root]) {
        return;
    }
    let program = example("bashreadline");
    let outcome =
        crate::support::skep::call(&["run".as_ref(), program.as_os_str(), "--bin".as_ref(), "/bin/true".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`readline`") && outcome.stderr.contains("/bin/true"), "{}", outcome.stderr);
}

/// The kernel would put its breakpoint there and change the instruction.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_probe_in_the_middle_of_an_instruction_is_refused() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let dir = crate::support::scratch("middle");
    let (source, program) = (dir.join("marked.c"), dir.join("marked"));
    // Five bytes, then one.
    let text = r#"
__asm__(".globl marked\n.type marked, @function\nmarked: movl $0x11223344, %eax\n ret\n.size marked, .-marked");
int marked(void);
int main(void) { return marked() != 0x11223344; }
"#;
    std::fs::write(&source, text).unwrap();
    let made = std::process::Command::new("cc").arg("-o").args([&program, &source]).status().unwrap();
    assert!(made.success());
    let program = program.to_str().unwrap();
    let probe = |kind: &str, off: u32, flags: &[&str]| {
        let script = format!("{kind}:{program}:marked+{off} {{ printf(\"hit\\n\"); }}");
        let words = [&["trace", "-q", "-c", program, &script][..], flags].concat();
        crate::support::skep::call(&words)
    };
    for off in [1, 4] {
        let refused = probe("uprobe", off, &[]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        let wanted = format!("into middle of instruction: {program}:marked+{off}");
        assert!(refused.stderr.contains(&wanted) && refused.stderr.contains("+0"), "{}", refused.stderr);
    }
    // The kernel's probe may be there a moment longer than its trace.
    for flags in [&["--engine", "user"][..], &[]] {
        let hit = probe("uprobe", 5, flags);
        assert_eq!((hit.status.code(), hit.stdout.as_str()), (Some(0), "hit\n"), "{}", hit.stderr);
    }
    std::fs::remove_dir_all(dir).unwrap();
}
