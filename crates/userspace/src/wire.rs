//! Live packets without rights: two hosts of the kernel's, and the attached programs on the cable between them.
//!
//! The *near* host is where a command runs, and its device is the one that programs are attached to: what comes to it from the far host meets
//! the XDP program, then those of tc ingress; what it sends meets those of tc egress. Socket filters see both, and keep nothing from
//! anybody. The *far* host answers as Linux does, and may have a command of its own, a server for example.
//!
//! A packet that an XDP program sends back (`TX`) goes to the far host. There is no third host: what is redirected to another device is counted, and
//! gone. A packet in a program that does wrong ends the run.
//!
//! Made of [`skep_sys::tap`].

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use skep_engine::{Error, ErrorKind, TcDirection};
use skep_sys::child::end_with_parent;
use skep_sys::tap::{Network, Step, Tap};
use skep_sys::wake::Wake;
use skep_sys::{Errno, io_text};
use skep_vm::MAX_PACKET_BYTES;

use crate::attach::Place;
use crate::chain::{Chain, Fate};
use crate::context::ETH_HLEN;
use crate::replay::Report;
use crate::session::Shared;

/// Frames of one direction that are taken before the other one has its turn.
const BATCH: usize = 64;

/// Two hosts, and a cable that is not plugged in yet.
#[derive(Debug)]
pub struct Wire {
    network: Arc<Network>,
    /// What runs on the far host.
    far: Option<Command>,
}

/// A command on the far host, which ends with the wire.
#[derive(Debug)]
struct Far(Child);

impl Far {
    fn start(network: &Network, mut command: Command) -> Result<Far, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |cause: std::io::Error| Error::new(format!("cannot start `{program}`: {}", io_text(&cause)));
        network.far.take_in(&mut command).map_err(failed)?;
        end_with_parent(&mut command);
        // In a group of its own, so that Ctrl-C does not end it before what talks to it.
        command.process_group(0).stdin(Stdio::null());
        Ok(Far(command.spawn().map_err(failed)?))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // With all that it has started, unless that went away into a group of its own.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Wire {
    /// Address of the near host (of those for documentation, RFC 5737).
    pub const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    /// Address of the far host.
    pub const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// Makes both hosts, [`Wire::NEAR`] and [`Wire::FAR`].
    ///
    /// # Errors
    ///
    /// What the machine does not allow, and what would.
    pub fn new() -> Result<Wire, Error> {
        let network = Network::new(Wire::NEAR, Wire::FAR).map_err(|(step, errno)| refusal(step, errno))?;
        Ok(Wire { network: Arc::new(network), far: None })
    }

    /// Lets a command run on the far host as long as packets pass. Its standard input is empty.
    #[must_use]
    pub fn with_far(mut self, command: Command) -> Wire {
        self.far = Some(command);
        self
    }

    pub(crate) fn network(&self) -> Arc<Network> {
        self.network.clone()
    }

    /// Lets packets pass, through the programs of an object.
    pub(crate) fn plug_in(self, shared: Arc<Shared>, report: Arc<Mutex<Option<Report>>>) -> Result<Plugged, Error> {
        let failed = |errno: Errno| Error::new("cannot wait for packets").with_source(errno);
        let far = self.far.map(|command| Far::start(&self.network, command)).transpose()?;
        let wake = Arc::new(Wake::new().map_err(failed)?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut cable = Cable {
            network: self.network,
            shared,
            inward: Chain::new(|place| {
                matches!(place, Place::Xdp | Place::Socket | Place::Tc { direction: TcDirection::Ingress })
            }),
            outward: Chain::new(|place| matches!(place, Place::Socket | Place::Tc { direction: TcDirection::Egress })),
            frame: vec![0; MAX_PACKET_BYTES],
            packets: 0,
            bytes: 0,
        };
        let start = Instant::now();
        let (asked, woken) = (Arc::clone(&stop), Arc::clone(&wake));
        let thread = std::thread::Builder::new().name("skep-wire".to_owned()).spawn(move || {
            let outcome = cable.run(&asked, &woken);
            if let Err(error) = outcome {
                cable.shared.stop(error);
            }
            let mut programs = cable.inward.verdicts(&cable.shared);
            for verdicts in cable.outward.verdicts(&cable.shared) {
                match programs.iter_mut().find(|it| it.program == verdicts.program) {
                    Some(known) => known.add(verdicts),
                    None => programs.push(verdicts),
                }
            }
            *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(Report {
                packets: cable.packets,
                bytes: cable.bytes,
                written: None,
                left_out: Vec::new(),
                took: start.elapsed(),
                programs,
            });
        });
        let thread = thread.map_err(|cause| Error::new("cannot start a thread").with_source(cause))?;
        Ok(Plugged { stop, wake, thread: Some(thread), far })
    }
}

/// A cable that is plugged in until this is dropped.
#[derive(Debug)]
pub(crate) struct Plugged {
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    far: Option<Far>,
}

impl Drop for Plugged {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        drop(self.far.take());
    }
}

/// What the thread between both hosts has.
struct Cable {
    network: Arc<Network>,
    shared: Arc<Shared>,
    /// To the near host, and from it.
    inward: Chain,
    outward: Chain,
    frame: Vec<u8>,
    packets: u64,
    bytes: u64,
}

impl Cable {
    fn run(&mut self, stop: &AtomicBool, wake: &Wake) -> Result<(), Error> {
        let network = Arc::clone(&self.network);
        let (near, far) = (&network.near.tap, &network.far.tap);
        while !stop.load(Ordering::Acquire) {
            let mut fds =
                [PollFd::new(wake, PollFlags::IN), PollFd::new(near, PollFlags::IN), PollFd::new(far, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::new("cannot wait for packets").with_source(std::io::Error::from(errno)));
                }
            }
            self.carry(far, near, true)?;
            self.carry(near, far, false)?;
        }
        Ok(())
    }

    /// Takes frames from one end to the other.
    fn carry(&mut self, from: &Tap, to: &Tap, inward: bool) -> Result<(), Error> {
        let chain = if inward { &mut self.inward } else { &mut self.outward };
        chain.look(&self.shared)?;
        for _ in 0..BATCH {
            let read =
                from.read(&mut self.frame).map_err(|errno| Error::new("cannot read packets").with_source(errno))?;
            let Some(frame) = read.and_then(|len| self.frame.get(..len)) else { break };
            if frame.len() < ETH_HLEN {
                continue;
            }
            self.packets += 1;
            self.bytes += frame.len() as u64;
            let number = self.packets;
            let outcome = chain.through(&self.shared, frame, true, &mut |_| Ok(()));
            let outcome = outcome.map_err(|error| error.about(format_args!("packet {number}")))?;
            let frame = outcome.changed.as_deref().unwrap_or(frame);
            // A host whose queue is full, or that is not up yet, loses what comes, as on every network.
            let _ = match outcome.fate {
                Fate::Next | Fate::Passed => to.write(frame),
                Fate::Sent if outcome.redirected => Ok(()),
                Fate::Sent => from.write(frame),
                Fate::Gone => Ok(()),
            };
        }
        Ok(())
    }
}

fn refusal(step: Step, errno: Errno) -> Error {
    let (what, hint) = match step {
        Step::Process => ("cannot make a process for a network", None),
        Step::UserNamespace => (
            "cannot make a user namespace",
            Some(
                "it is switched off: see /proc/sys/user/max_user_namespaces, /proc/sys/kernel/unprivileged_userns_clone and /proc/sys/kernel/apparmor_restrict_unprivileged_userns; root needs none",
            ),
        ),
        Step::Users => (
            "cannot name the user of a user namespace",
            Some("a container's rules forbid it; root needs no user namespace"),
        ),
        Step::NetNamespace => ("cannot make a network namespace", Some("see /proc/sys/user/max_net_namespaces")),
        Step::Tun => (
            "cannot open /dev/net/tun",
            Some(
                "it must be there (`modprobe tun`) and open to you (`chmod 666 /dev/net/tun`, as most distributions have it); `--pcap FILE` needs neither",
            ),
        ),
        Step::Device => ("cannot make a TAP device", Some("the kernel needs CONFIG_TUN")),
        Step::Address => ("cannot set up a TAP device", None),
    };
    let kind = if matches!(errno, Errno::EPERM | Errno::EACCES) { ErrorKind::Denied } else { ErrorKind::Unsupported };
    let error = Error::new(what).with_source(errno).with_kind(kind);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
