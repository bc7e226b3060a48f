//! Programs on network interfaces: on a cable between two namespaces, never on an interface of the machine.

use std::time::Duration;

use crate::support::needs::Need::{Program, Root, Veth};
use crate::support::network::{Cable, INTERFACE, NEAR};
use crate::support::programs::both;
use crate::support::{Skep, example, needs, skep};

const SOON: Duration = Duration::from_millis(800);

fn run_on_cable(cable: &Cable, program: &std::path::Path) -> Skep {
    Skep::run_within(&cable.near.enter(), &[program.as_os_str(), "--iface".as_ref(), INTERFACE.as_ref()])
}

/// What is on the interface, as `ip` and `tc` tell it.
fn filters(cable: &Cable) -> String {
    let link = cable.near.output(&["ip", "-d", "link", "show", INTERFACE]);
    let qdiscs = cable.near.output(&["tc", "qdisc", "show", "dev", INTERFACE]);
    let ingress = cable.near.output(&["tc", "filter", "show", "dev", INTERFACE, "ingress"]);
    let egress = cable.near.output(&["tc", "filter", "show", "dev", INTERFACE, "egress"]);
    format!("{link}{qdiscs}{ingress}{egress}")
}

#[test]
fn pings_are_dropped_and_http_passes() {
    if !needs(&[Root, Veth, Program("ping")]) {
        return;
    }
    let cable = Cable::new();
    cable.near.serve_http(80);
    for program in both("xdp_drop_icmp", "04-xdp-drop-icmp/xdp") {
        let skep = run_on_cable(&cable, &program);
        assert!(filters(&cable).contains("xdp"), "{}", filters(&cable));
        assert_eq!(cable.far.ping_loss(NEAR, 3), 100);
        assert_eq!(cable.far.get_http(NEAR, 80, SOON * 4).as_deref(), Some("HTTP/1.0 200 OK"));
        skep.line_ending("Drop ICMP packets");
        skep.line("of the SYN packet", |line| line.ends_with("output:Packet size is 74, protocol is 6"));
        skep.stop();
        assert_eq!(cable.far.ping_loss(NEAR, 3), 0);
        assert!(!filters(&cable).contains("xdp"), "{}", filters(&cable));
    }
}

#[test]
fn a_global_counts_packets() {
    if !needs(&[Root, Veth, Program("ping")]) {
        return;
    }
    let cable = Cable::new();
    for program in both("xdp_counter", "10-xdp-counter/hello") {
        let skep = run_on_cable(&cable, &program);
        assert_eq!(cable.far.ping_loss(NEAR, 3), 0);
        for count in 0..3 {
            skep.line_ending(&format!("Hello World {count}"));
        }
        skep.stop();
    }
}

#[test]
fn packet_sizes_are_told_and_traffic_is_unaffected() {
    if !needs(&[Root, Veth, Program("ping")]) {
        return;
    }
    let cable = Cable::new();
    let skep = run_on_cable(&cable, &example("xdp"));
    assert_eq!(cable.far.ping_loss(NEAR, 3), 0);
    // 56 bytes of data, 8 of ICMP, 20 of IP, 14 of Ethernet.
    skep.line_ending("packet size: 98");
    skep.stop();
}

/// One port is closed from the inside; everything else works, and the interface is as it was afterwards.
fn one_port_is_closed(program: &std::path::Path) {
    let cable = Cable::new();
    cable.far.serve_http(80);
    cable.far.serve_http(8080);
    let far = crate::support::network::FAR;
    let before = filters(&cable);
    let skep = run_on_cable(&cable, program);
    assert_eq!(cable.near.get_http(far, 80, SOON), None);
    assert_eq!(cable.near.get_http(far, 8080, SOON * 4).as_deref(), Some("HTTP/1.0 200 OK"));
    assert_eq!(cable.near.ping_loss(far, 2), 0);
    skep.stop();
    assert_eq!(filters(&cable), before);
    assert_eq!(cable.near.get_http(far, 80, SOON * 4).as_deref(), Some("HTTP/1.0 200 OK"));
}

#[test]
fn traffic_control_drops_one_port() {
    if !needs(&[Root, Veth, Program("ping"), Program("tc")]) {
        return;
    }
    one_port_is_closed(&example("traffic_controller"));
}

#[test]
fn traffic_control_by_its_old_section_name() {
    if !needs(&[Root, Veth, Program("ping"), Program("tc")]) {
        return;
    }
    one_port_is_closed(&example("traffic_controller_action"));
}

#[test]
fn killed_outright_the_interface_is_free() {
    if !needs(&[Root, Veth, Program("ping"), Program("tc")]) {
        return;
    }
    let cable = Cable::new();
    let before = filters(&cable);
    for name in ["xdp_drop_icmp", "traffic_controller"] {
        let skep = run_on_cable(&cable, &example(name));
        // A link at traffic control's newer place is not shown by older versions of `tc`.
        assert!(filters(&cable) != before || !skep.held().links.is_empty(), "{name}");
        skep.signal(rustix::process::Signal::KILL);
        skep.end();
        let restored = crate::support::eventually(|| (filters(&cable) == before).then_some(()));
        assert!(restored.is_some(), "{name} left:\n{}", filters(&cable));
    }
}

#[test]
fn a_program_for_an_interface_asks_which() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = skep::call(&["run".as_ref(), example("xdp").as_os_str()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--iface"), "{}", outcome.stderr);
}
