//! Two network namespaces joined by a cable: traffic of our own, that no interface of the machine sees.
//!
//! `near` (10.207.0.1) is where programs are attached, `far` (10.207.0.2) is where traffic comes from. Names hold our process
//! id, so that several test runs do not meet. Commands run by `nsenter --net`, since `ip netns exec` hides cgroupfs, tracefs
//! and bpffs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The interface in either namespace.
pub(crate) const INTERFACE: &str = "cable0";

/// Address of the namespace where programs are attached.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 207, 0, 1);

/// Address of the other one.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 207, 0, 2);

/// The two namespaces; both go when this does.
pub(crate) struct Cable {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

impl Cable {
    pub(crate) fn new() -> Cable {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("skep-{side}-{}-{number}", std::process::id());
        let cable = Cable { near: Namespace::new(name("near")), far: Namespace::new(name("far")) };
        let (near, far) = (&cable.near.name, &cable.far.name);
        ip(&["link", "add", INTERFACE, "netns", near, "type", "veth", "peer", INTERFACE, "netns", far]);
        for (namespace, address) in [(near, NEAR), (far, FAR)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", INTERFACE]);
            ip(&["-n", namespace, "link", "set", INTERFACE, "up"]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        cable
    }
}

impl Namespace {
    fn new(name: String) -> Namespace {
        ip(&["netns", "add", &name]);
        Namespace { name }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Words in front of a command that is to run here.
    pub(crate) fn enter(&self) -> Vec<OsString> {
        vec!["nsenter".into(), format!("--net={}", self.path().display()).into()]
    }

    /// What a command prints that runs here; its verdict is the caller's business.
    pub(crate) fn output(&self, words: &[&str]) -> String {
        let enter = self.enter();
        let out = Command::new(&enter[0]).args(&enter[1..]).args(words).output().expect("nsenter runs");
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    }

    /// Runs `work` in a thread that is here.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("the namespace has a file");
        skep_sys::netns::within(namespace.as_fd(), work).expect("root can enter a namespace")
    }

    /// Percentage of pings to `address` that get no answer.
    pub(crate) fn ping_loss(&self, address: Ipv4Addr, count: u32) -> u32 {
        let text =
            self.output(&["ping", "-n", "-q", "-i", "0.2", "-W", "1", "-c", &count.to_string(), &address.to_string()]);
        let loss = text.split_once("% packet loss").and_then(|(before, _)| before.rsplit([' ', ',']).next());
        loss.and_then(|loss| loss.parse().ok()).unwrap_or_else(|| panic!("ping said:\n{text}"))
    }

    /// Serves `200 OK` on a port, for as long as the test binary lives.
    pub(crate) fn serve_http(&self, port: u16) {
        let listener = self.within(|| TcpListener::bind(("0.0.0.0", port)).expect("nobody else listens here"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
    }

    /// The status line that a server answers with; `None` when no connection comes about.
    pub(crate) fn get_http(&self, address: Ipv4Addr, port: u16, timeout: Duration) -> Option<String> {
        self.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), timeout).ok()?;
            stream.set_read_timeout(Some(timeout)).ok()?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.lines().next().map(str::to_owned)
        })
    }
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    // A client that went away needs no answer.
    let _ = stream.read(&mut request);
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n");
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().expect("ip runs: `cargo xtask setup` installs it");
    assert!(out.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
}
