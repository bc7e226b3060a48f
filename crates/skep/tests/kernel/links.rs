//! Links: what the kernel tells about them, what is attached where, and names in a bpffs.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use skep::spec::{AttachType, MapType};
use skep::{
    AttachOptions, Errno, ErrorKind, Hook, LinkKind, LinkType, Map, Pinned, Position, Program, TcDirection, XdpMode,
    errno_of, link_info, links, open_pinned, query, unpin,
};
use skep_sys::netlink::{Message, Socket};
use skep_sys::{mount, netns};

use super::{Pins, Recipe, may_load};

/// A network namespace with a pair of interfaces, `one` and `two`.
struct Network(OwnedFd);

impl Network {
    fn new() -> Network {
        let network = Network(netns::create().unwrap());
        netns::within(network.0.as_fd(), || Socket::open().unwrap().send(Message::add_veth("one", "two")).unwrap())
            .unwrap();
        network
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    fn options(&self, interface: &str) -> AttachOptions {
        AttachOptions {
            interface: Some(interface.into()),
            net_namespace: Some(self.path()),
            ..AttachOptions::default()
        }
    }
}

fn id(program: &Program<'_>) -> u32 {
    program.info().unwrap().id
}

#[test]
fn a_link_tells_where_it_is_and_is_among_all() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().program("on_free", "raw_tp/mark_victim", "r0 = 0\nexit").load();
    let program = loaded.program("on_free").unwrap();
    let link = program.attach().unwrap();
    let info = link_info(&*link).unwrap().remove(0);
    assert_eq!((info.link_type, info.prog.0), (LinkType::RAW_TRACEPOINT, id(&program)));
    assert!(matches!(&info.kind, LinkKind::RawTracepoint { name, .. } if name == "mark_victim"), "{info:?}");
    let all = links().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(all.contains(&info), "{all:?}");
    let again = skep::link_from_id(info.id.0).unwrap();
    assert_eq!(link_info(&*again).unwrap(), std::slice::from_ref(&info));
    drop((again, link));
    assert!(!links().any(|link| link.unwrap().id == info.id));
}

#[test]
fn programs_and_maps_are_among_all() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("listed", MapType::ARRAY, 4, 4, 1).program("listed", "tc", "r0 = 0\nexit").load();
    let wanted = id(&loaded.program("listed").unwrap());
    assert!(Program::all().any(|program| program.unwrap().info().unwrap().id == wanted));
    let wanted = loaded.map("listed").unwrap().facts().id;
    assert!(Map::all().any(|map| map.unwrap().facts().id == wanted));
}

#[test]
fn the_programs_of_a_tcx_hook_are_told_in_order() {
    if !may_load() {
        return;
    }
    let network = Network::new();
    let loaded = Recipe::new()
        .program("first", "tcx/ingress", "r0 = -1\nexit")
        .program("second", "tcx/ingress", "r0 = -1\nexit")
        .load();
    let hook = Hook::Tcx { interface: "one", direction: TcDirection::Ingress };
    let ask = || query(&hook, Some(&network.path()));
    let empty = match ask() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("skipped: needs tcx");
            return;
        }
        asked => asked.unwrap(),
    };
    assert!(empty.programs.is_empty());
    let options = network.options("one");
    let second = loaded.program("second").unwrap().attach_with(&options).unwrap();
    let options = AttachOptions { position: Position::First, ..options };
    let first = loaded.program("first").unwrap().attach_with(&options).unwrap();
    let found = ask().unwrap();
    let ids: Vec<u32> = found.programs.iter().map(|program| program.id).collect();
    assert_eq!(ids, [id(&loaded.program("first").unwrap()), id(&loaded.program("second").unwrap())]);
    assert_eq!(found.programs[0].link, Some(link_info(&*first).unwrap()[0].id.0));
    assert!(found.revision > empty.revision);
    // Between the two, by the link of the one before.
    let between = Recipe::new().program("between", "tcx/ingress", "r0 = -1\nexit").load();
    let position = Position::AfterLink(link_info(&*first).unwrap()[0].id.0);
    let options = AttachOptions { position, ..network.options("one") };
    let third = between.program("between").unwrap().attach_with(&options).unwrap();
    assert_eq!(ask().unwrap().programs[1].id, id(&between.program("between").unwrap()));
    drop(third);
    let out = Hook::Tcx { interface: "one", direction: TcDirection::Egress };
    assert!(query(&out, Some(&network.path())).unwrap().programs.is_empty());
    drop((first, second));
    assert!(ask().unwrap().programs.is_empty());
    let absent = Hook::Tcx { interface: "on", direction: TcDirection::Egress };
    let error = query(&absent, Some(&network.path())).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("`one`")), "{error}");
    let error = query(&hook, Some("/no/such/namespace".as_ref())).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("/var/run/netns")), "{error}");
}

#[test]
fn an_xdp_link_is_found_and_takes_another_program_only_from_the_one_it_has() {
    if !may_load() {
        return;
    }
    let network = Network::new();
    let loaded = Recipe::new().program("old", "xdp", "r0 = 2\nexit").program("new", "xdp", "r0 = 2\nexit").load();
    let (old, new) = (loaded.program("old").unwrap(), loaded.program("new").unwrap());
    let hook = Hook::Xdp { interface: "one" };
    let ids = || -> Vec<u32> {
        query(&hook, Some(&network.path())).unwrap().programs.iter().map(|program| program.id).collect()
    };
    assert!(ids().is_empty());
    let options = AttachOptions { xdp_mode: XdpMode::Generic, ..network.options("one") };
    let link = old.attach_with(&options).unwrap();
    assert_eq!(ids(), [id(&old)]);
    let error = new.replace_at_if(&*link, &new).unwrap_err();
    assert_eq!(errno_of(&error), Some(Errno::EPERM), "{error}");
    new.replace_at_if(&*link, &old).unwrap();
    assert_eq!(ids(), [id(&new)]);
    link.detach().unwrap();
    assert!(ids().is_empty());
}

#[test]
fn a_cgroup_and_a_network_namespace_tell_their_programs() {
    if !may_load() {
        return;
    }
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = mounted.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let (root, _mount) = match mounted {
        Some(path) => (PathBuf::from(path), None),
        None => {
            let mount = mount::detached("cgroup2").unwrap();
            (PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())), Some(mount))
        }
    };
    let folder = root.join(format!("skep-library-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let network = Network::new();
    let tested = std::panic::catch_unwind(|| {
        let loaded = Recipe::new()
            .program("egress", "cgroup_skb/egress", "r0 = 1\nexit")
            .program("lookup", "sk_lookup", "r0 = 1\nexit")
            .load();
        let hook = |attach_type, inherited| Hook::Cgroup { folder: &folder, attach_type, inherited };
        let egress = loaded.program("egress").unwrap();
        let options = AttachOptions { cgroup: Some(folder.clone()), ..AttachOptions::default() };
        let _link = egress.attach_with(&options).unwrap();
        for inherited in [false, true] {
            let found = query(&hook(AttachType::CGROUP_INET_EGRESS, inherited), None).unwrap();
            assert!(found.programs.iter().any(|program| program.id == id(&egress)), "{found:?}");
        }
        assert!(query(&hook(AttachType::CGROUP_INET_INGRESS, false), None).unwrap().programs.is_empty());
        let nowhere =
            Hook::Cgroup { folder: "/proc".as_ref(), attach_type: AttachType::CGROUP_DEVICE, inherited: false };
        assert_eq!(query(&nowhere, None).unwrap_err().kind(), ErrorKind::Absent);
        let lookup = loaded.program("lookup").unwrap();
        let options = AttachOptions { net_namespace: Some(network.path()), ..AttachOptions::default() };
        let _link = lookup.attach_with(&options).unwrap();
        let hook = Hook::NetNamespace { attach_type: AttachType::SK_LOOKUP };
        let found = query(&hook, Some(&network.path())).unwrap();
        assert_eq!(found.programs.iter().map(|program| program.id).collect::<Vec<_>>(), [id(&lookup)]);
    });
    std::fs::remove_dir(&folder).unwrap();
    tested.unwrap();
}

#[test]
fn names_in_a_bpffs_are_opened_and_taken_away() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded =
        Recipe::new().map("kept", MapType::ARRAY, 4, 4, 1).program("walk", "iter/bpf_map", "r0 = 0\nexit").load();
    loaded.map("kept").unwrap().pin(pins.path("map")).unwrap();
    loaded.program("walk").unwrap().pin(pins.path("program")).unwrap();
    let mut link = loaded.program("walk").unwrap().attach().unwrap();
    link.pin(&pins.path("link")).unwrap();
    assert!(matches!(open_pinned(pins.path("map")).unwrap(), Pinned::Map(map) if map.name() == "kept"));
    assert!(matches!(open_pinned(pins.path("program")).unwrap(), Pinned::Program(of) if of.name() == "walk"));
    assert!(matches!(open_pinned(pins.path("link")).unwrap(), Pinned::Link(_)));
    skep::link_from_pinned_as(pins.path("link"), LinkType::ITER).unwrap();
    let error = skep::link_from_pinned_as(pins.path("link"), LinkType::XDP).unwrap_err().to_string();
    assert!(error.ends_with("is of kind iter and not xdp"), "{error}");
    for name in ["map", "program", "link"] {
        unpin(pins.path(name)).unwrap();
        // Twice is no error.
        unpin(pins.path(name)).unwrap();
        assert!(open_pinned(pins.path(name)).is_err());
    }
    assert!(unpin("/proc/self/status").unwrap_err().to_string().contains("not in a bpffs"));
}

#[test]
fn a_system_calls_function_is_found() {
    let Ok(symbols) = std::fs::read_to_string("/proc/kallsyms") else {
        println!("skipped: needs /proc/kallsyms");
        return;
    };
    let function = skep::syscall_function("openat").unwrap();
    let is_there = |name: &str| symbols.lines().any(|line| line.split(' ').nth(2) == Some(name));
    assert!(function.as_deref().is_some_and(|name| name.ends_with("sys_openat") && is_there(name)), "{function:?}");
    assert_eq!(skep::syscall_function("no_such_call").unwrap(), None);
}
