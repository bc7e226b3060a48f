//! Interfaces, network namespaces and sockets, in a network namespace of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skep_engine::{AttachOptions, Link, TcDirection, XdpMode};
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkKind, MapCreate};
use skep_sys::netlink::{self, Interface, Message, Socket, TC_EGRESS, TC_INGRESS};
use skep_sys::netns;
use skep_sys::version::KernelVersion;

use super::super::attachment::{Attachment, Hold};
use super::super::request::Request;
use super::super::{Options, Position, tc, xdp};
use super::{Counter, Recipe, detached, root, skip, wait_until, words};

/// A network namespace with `sk0` and `sk1`, the two ends of a veth pair, and `lo`, all up.
struct Sandbox {
    namespace: OwnedFd,
    path: PathBuf,
}

impl Sandbox {
    fn new() -> Sandbox {
        let namespace = netns::create().unwrap();
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        let sandbox = Sandbox { namespace, path };
        sandbox.inside(|| {
            let socket = Socket::open().unwrap();
            socket.send(Message::add_veth("sk0", "sk1")).unwrap();
            for interface in socket.interfaces().unwrap() {
                if matches!(interface.name.as_str(), "lo" | "sk0" | "sk1") {
                    socket.send(Message::set_up(interface.index)).unwrap();
                }
            }
        });
        sandbox
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::within(self.namespace.as_fd(), work).unwrap()
    }

    fn interface(&self, name: &str) -> Interface {
        let all = self.inside(|| Socket::open().unwrap().interfaces().unwrap());
        all.into_iter().find(|interface| interface.name == name).unwrap()
    }

    /// Sends a frame into `sk0`; it comes out of `sk1`.
    fn send(&self) {
        self.send_into("sk0");
    }

    fn send_into(&self, interface: &str) {
        let index = self.interface(interface).index;
        let mut frame = [0xff; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]); // an ethertype for experiments
        self.inside(|| {
            let socket = skep_sys::socket::packet(index).unwrap();
            std::fs::File::from(socket).write_all(&frame).unwrap();
        });
    }

    fn options<'a>(&'a self, interface: &'a str) -> Options<'a> {
        Options { interface: Some(interface), net_namespace: Some(&self.path), ..Options::default() }
    }

    fn filters(&self, interface: &str) -> usize {
        let index = self.interface(interface).index;
        self.inside(|| {
            let socket = Socket::open().unwrap();
            [TC_INGRESS, TC_EGRESS].iter().map(|parent| socket.filters(index, *parent).unwrap().len()).sum()
        })
    }

    fn has_clsact(&self, interface: &str) -> bool {
        let index = self.interface(interface).index;
        self.inside(|| Socket::open().unwrap().has_clsact(index).unwrap())
    }
}

fn xdp_program() -> Counter {
    Recipe::new("xdp", ProgType::XDP, AttachPoint::Xdp).attach_type(AttachType::XDP).returning(2).load()
}

fn tc_program(direction: Option<TcDirection>) -> Counter {
    Recipe::new("tc", ProgType::SCHED_CLS, AttachPoint::Tc { direction }).returning(-1).load()
}

#[test]
fn xdp_runs_in_the_driver_where_that_can() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let attachment = xdp_program().attached(&sandbox.options("sk1"));
    assert_eq!(attachment.describe(), "xdp sk1 (native)");
    assert_eq!(sandbox.interface("sk1").xdp.map(|xdp| xdp.mode), Some(1));
    detached(attachment);
    assert_eq!(sandbox.interface("sk1").xdp, None);
    xdp_program().runs_while_attached(&sandbox.options("sk1"), || sandbox.send());
}

#[test]
fn xdp_is_generic_where_it_must_or_shall() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    // The loopback interface has no native mode.
    let attachment = xdp_program().attached(&sandbox.options("lo"));
    assert_eq!(attachment.describe(), "xdp lo (generic)");
    detached(attachment);
    let error = xdp_program().refused(&Options { xdp_mode: XdpMode::Native, ..sandbox.options("lo") });
    assert!(error.hint().is_some_and(|hint| hint.contains("generic")), "{}", words(&error));
    let generic = Options { xdp_mode: XdpMode::Generic, ..sandbox.options("sk1") };
    xdp_program().runs_while_attached(&generic, || sandbox.send());
}

#[test]
fn a_second_xdp_program_is_told_who_is_there() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let first = xdp_program();
    let attachment = first.attached(&sandbox.options("sk1"));
    let error = xdp_program().refused(&sandbox.options("sk1"));
    let id = first.fd.info().unwrap().id;
    assert!(error.to_string().contains(&format!("program {id} is on sk1 already")), "{}", words(&error));
    detached(attachment);
}

#[test]
fn an_xdp_link_takes_another_program_without_a_gap() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let (first, second) = (xdp_program(), xdp_program());
    let attachment = first.attached(&sandbox.options("sk1"));
    attachment.update(second.fd.as_fd(), Some(first.fd.as_fd())).unwrap();
    assert!(attachment.update(first.fd.as_fd(), Some(first.fd.as_fd())).is_err());
    sandbox.send();
    wait_until("the second program to run", || second.runs() > 0);
    detached(attachment);
}

#[test]
fn xdp_without_a_link_is_taken_back() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let (counter, interface) = (xdp_program(), sandbox.interface("sk1"));
    let options = Options::default();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let attachment = sandbox.inside(|| {
        let hold = xdp::legacy(&request, &interface, netlink::XDP_FLAGS_SKB_MODE).unwrap_or_else(|_| panic!("refused"));
        Attachment::new("xdp sk1", hold)
    });
    assert_eq!(sandbox.interface("sk1").xdp.map(|xdp| xdp.mode), Some(2));
    drop(attachment);
    assert_eq!(sandbox.interface("sk1").xdp, None);
}

#[test]
fn an_interface_is_asked_for_and_the_known_ones_are_named() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = xdp_program();
    let error = counter.refused(&Options { interface: None, ..sandbox.options("") });
    assert!(error.hint().is_some_and(|hint| hint.contains("up: lo sk1 sk0")), "{}", words(&error));
    let error = counter.refused(&sandbox.options("sk2"));
    assert!(error.to_string().contains("no network interface `sk2`"), "{}", words(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("did you mean")), "{}", words(&error));
    let nowhere = Options { net_namespace: Some(Path::new("/no/such/namespace")), ..sandbox.options("sk1") };
    assert!(counter.refused(&nowhere).hint().is_some_and(|hint| hint.contains("/var/run/netns")));
}

#[test]
fn tc_runs_in_both_directions() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    for (direction, interface) in
        [(None, "sk1"), (Some(TcDirection::Ingress), "sk1"), (Some(TcDirection::Egress), "sk0")]
    {
        let counter = tc_program(direction);
        let attachment = counter.attached(&sandbox.options(interface));
        sandbox.send();
        wait_until("the program to run", || counter.runs() > 0);
        if KernelVersion::running() >= KernelVersion::new(6, 6, 0) {
            assert!(matches!(attachment.info().unwrap()[0].kind, LinkKind::Tcx { .. }));
            assert!(!sandbox.has_clsact(interface));
        }
        detached(attachment);
        let runs = counter.runs();
        sandbox.send();
        assert_eq!(counter.runs(), runs);
        assert!(!sandbox.has_clsact(interface));
    }
}

#[test]
fn tcx_programs_stand_in_the_order_that_was_asked_for() {
    if !root() {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 6, 0) {
        return skip("kernel 6.6 (tcx)");
    }
    let sandbox = Sandbox::new();
    let [a, b, c] = [(); 3].map(|()| tc_program(None));
    let id = |counter: &Counter| counter.fd.info().unwrap().id;
    let first = AttachOptions {
        interface: Some("sk1".into()),
        net_namespace: Some(sandbox.path.clone()),
        position: Position::First,
        ..AttachOptions::default()
    };
    let held = [
        a.attached(&sandbox.options("sk1")),
        b.attached(&Options::from_engine(&first)),
        c.attached(&Options { position: Position::Before(id(&a).0), ..sandbox.options("sk1") }),
    ];
    let index = sandbox.interface("sk1").index;
    let query = skep_sys::bpf::ProgQuery {
        target: skep_sys::bpf::LinkTarget::Ifindex(index),
        attach_type: AttachType::TCX_INGRESS.0,
        query_flags: 0,
    };
    let listed = sandbox.inside(|| skep_sys::bpf::prog_query(&query).unwrap().progs);
    assert_eq!(listed, [id(&b), id(&c), id(&a)]);
    held.into_iter().for_each(detached);
}

/// Attaches by a clsact filter, though the kernel may have tcx.
fn clsact(sandbox: &Sandbox, counter: &Counter) -> Attachment {
    let options = Options::default();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let interface = sandbox.interface("sk1");
    let hold: Hold = sandbox.inside(|| tc::clsact(&request, &interface, TcDirection::Ingress)).unwrap();
    Attachment::new("tc sk1", hold)
}

#[test]
fn a_clsact_filter_runs_and_is_taken_back_with_its_qdisc() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = tc_program(None);
    let attachment = clsact(&sandbox, &counter);
    assert_eq!((sandbox.filters("sk1"), sandbox.has_clsact("sk1")), (1, true));
    sandbox.send();
    wait_until("the filter to run", || counter.runs() > 0);
    Box::new(attachment).detach().unwrap();
    assert!(!sandbox.has_clsact("sk1"));
}

#[test]
fn a_qdisc_that_others_use_or_made_stays() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let (a, b) = (tc_program(None), tc_program(None));
    // The first makes the qdisc, the second is still there when the first goes.
    let first = clsact(&sandbox, &a);
    let second = clsact(&sandbox, &b);
    drop(first);
    assert_eq!((sandbox.filters("sk1"), sandbox.has_clsact("sk1")), (1, true));
    drop(second);
    assert_eq!((sandbox.filters("sk1"), sandbox.has_clsact("sk1")), (0, true));
}

#[test]
fn a_link_and_pinning_are_refused_for_a_filter() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = tc_program(None);
    let mut attachment = clsact(&sandbox, &counter);
    let error = attachment.pin(Path::new("/sys/fs/bpf/x")).unwrap_err();
    assert!(error.to_string().contains("6.6"), "{error}");
    assert!(attachment.update(counter.fd.as_fd(), None).is_err());
}

const NAMESPACE: &str = "SKEP_TEST_NAMESPACE";

/// Not a test of its own: the process that `sigkill_leaves_no_filter` kills.
#[test]
fn child_that_is_killed() {
    let Ok(namespace) = std::env::var(NAMESPACE) else { return };
    let namespace = netns::open(Path::new(&namespace)).unwrap();
    let counter = tc_program(None);
    let options = Options::default();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let hold = netns::within(namespace.as_fd(), || {
        let all = Socket::open().unwrap().interfaces().unwrap();
        let interface = all.into_iter().find(|interface| interface.name == "sk1").unwrap();
        tc::clsact(&request, &interface, TcDirection::Ingress).unwrap()
    })
    .unwrap();
    println!("attached");
    std::thread::sleep(std::time::Duration::from_secs(60));
    drop(hold);
}

#[test]
fn sigkill_leaves_no_filter() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attach::tests::network::child_that_is_killed", "--nocapture"])
        .env(NAMESPACE, &sandbox.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("attached")));
    assert_eq!((sandbox.filters("sk1"), sandbox.has_clsact("sk1")), (1, true));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the guard to clean up", || !sandbox.has_clsact("sk1"));
}

#[test]
fn sk_lookup_runs_for_connections_of_its_namespace() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = Recipe::new("sk_lookup", ProgType::SK_LOOKUP, AttachPoint::NetNamespace)
        .attach_type(AttachType::SK_LOOKUP)
        .returning(1)
        .load();
    counter.runs_while_attached(&sandbox.options(""), || {
        sandbox.inside(|| drop(TcpStream::connect("127.0.0.1:9")));
    });
}

#[test]
fn a_namespace_has_one_flow_dissector() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let recipe = Recipe::new("flow_dissector", ProgType::FLOW_DISSECTOR, AttachPoint::NetNamespace)
        .attach_type(AttachType::FLOW_DISSECTOR);
    let counter = recipe.load();
    // The kernel takes frames apart that come from a packet socket, to find their transport header.
    counter.runs_while_attached(&sandbox.options(""), || sandbox.send());
    let attachment = counter.attached(&sandbox.options(""));
    assert!(matches!(attachment.info().unwrap()[0].kind, LinkKind::Netns { attach_type: 17, .. }));
    let error = recipe.load().refused(&sandbox.options(""));
    assert!(error.to_string().contains("has one already"), "{}", words(&error));
    detached(attachment);
    detached(recipe.load().attached(&sandbox.options("")));
}

#[test]
fn a_netfilter_program_runs_at_its_hook() {
    if !root() {
        return;
    }
    let recipe = Recipe::new("netfilter", ProgType::NETFILTER, AttachPoint::Netfilter)
        .attach_type(AttachType::NETFILTER)
        .returning(1);
    let counter = match recipe.try_load() {
        Ok(counter) => counter,
        Err(Errno::EINVAL) => return skip("kernel 6.4 (netfilter)"),
        Err(errno) => panic!("{errno}"),
    };
    let sandbox = Sandbox::new();
    counter.runs_while_attached(&sandbox.options(""), || {
        sandbox.inside(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        });
    });
    let error = counter.refused(&Options { netfilter: Some((1, 1)), ..sandbox.options("") });
    assert!(error.to_string().contains("only IPv4"), "{}", words(&error));
}

#[test]
fn a_socket_filter_sees_the_packets_of_an_interface() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = Recipe::new("socket", ProgType::SOCKET_FILTER, AttachPoint::Socket).returning(-1).load();
    let attachment = counter.attached(&sandbox.options("sk1"));
    sandbox.send();
    wait_until("the filter to run", || counter.runs() > 0);
    assert!(attachment.socket().is_some());
    drop(attachment);
    let runs = counter.runs();
    sandbox.send();
    assert_eq!(counter.runs(), runs);
}

#[test]
fn a_socket_filter_leaves_the_callers_socket_as_it_was() {
    if !root() {
        return;
    }
    // Drops everything.
    let counter = Recipe::new("socket", ProgType::SOCKET_FILTER, AttachPoint::Socket).returning(0).load();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A datagram that is lost would be waited for in vain.
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let send = |byte: u8| socket.send_to(&[byte], socket.local_addr().unwrap()).unwrap();
    let received = || {
        let mut byte = [0];
        socket.recv(&mut byte).map(|_| byte[0]).unwrap()
    };
    send(1);
    assert_eq!(received(), 1);
    let attachment = counter.attached(&Options { socket: Some(socket.as_fd()), ..Options::default() });
    send(2);
    wait_until("the program to see the datagram", || counter.runs() > 0);
    drop(attachment);
    // What came before it was dropped.
    send(3);
    assert_eq!(received(), 3);
}

#[test]
fn a_socket_maps_program_is_taken_off_it() {
    if !root() {
        return;
    }
    let recipe = Recipe::new("sk_msg", ProgType::SK_MSG, AttachPoint::SockMap)
        .attach_type(AttachType::SK_MSG_VERDICT)
        .returning(1);
    let counter = recipe.load();
    let error = counter.refused(&Options::default());
    assert!(error.hint().is_some_and(|hint| hint.contains("SOCKMAP")), "{}", words(&error));
    let map = MapCreate { map_type: 15, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    let map = match map.create() {
        Ok(map) => map,
        Err(Errno::EINVAL) => return skip("socket maps (CONFIG_BPF_STREAM_PARSER)"),
        Err(errno) => panic!("{errno}"),
    };
    let on_map = || {
        let query = skep_sys::bpf::ProgQuery {
            target: skep_sys::bpf::LinkTarget::Fd(map.as_fd()),
            attach_type: AttachType::SK_MSG_VERDICT.0,
            query_flags: 0,
        };
        skep_sys::bpf::prog_query(&query).unwrap().progs.len()
    };
    let attachment = counter.attached(&Options { map: Some(map.as_fd()), ..Options::default() });
    assert_eq!(on_map(), 1);
    detached(attachment);
    assert_eq!(on_map(), 0);
}

#[test]
fn netkit_is_refused_at_other_interfaces() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let counter = Recipe::new("netkit/primary", ProgType::SCHED_CLS, AttachPoint::Netkit)
        .attach_type(AttachType::NETKIT_PRIMARY)
        .try_load();
    let counter = match counter {
        Ok(counter) => counter,
        Err(Errno::EINVAL) => return skip("kernel 6.7 (netkit)"),
        Err(errno) => panic!("{errno}"),
    };
    let error = counter.refused(&sandbox.options("sk0"));
    assert!(error.to_string().contains("netkit sk0 primary"), "{}", words(&error));
}

#[test]
fn netkit_programs_run_on_both_sides() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    let pair = sandbox.inside(|| {
        let socket = Socket::open().unwrap();
        socket.send(Message::add_netkit("nk0", "nk1"))?;
        for interface in socket.interfaces()?.iter().filter(|interface| interface.name.starts_with("nk")) {
            socket.send(Message::set_up(interface.index))?;
        }
        Ok::<(), netlink::Error>(())
    });
    match pair {
        Ok(()) => {}
        Err(error) if error.errno == Errno::EOPNOTSUPP => return skip("netkit interfaces (CONFIG_NETKIT)"),
        Err(error) => panic!("{error}"),
    }
    let program = |side: &'static str, attach_type| {
        // Onward to the other side.
        Recipe::new(side, ProgType::SCHED_CLS, AttachPoint::Netkit).attach_type(attach_type).returning(0).load()
    };
    let primary = program("netkit/primary", AttachType::NETKIT_PRIMARY);
    primary.runs_while_attached(&sandbox.options("nk0"), || sandbox.send_into("nk0"));
    // Both are attached at the primary; what its peer sends runs the other one.
    let peer = program("netkit/peer", AttachType::NETKIT_PEER);
    peer.runs_while_attached(&sandbox.options("nk0"), || sandbox.send_into("nk1"));
    let error = program("netkit/primary", AttachType::NETKIT_PRIMARY).refused(&sandbox.options("nk1"));
    assert!(error.to_string().contains("not its primary side"), "{}", words(&error));
}
