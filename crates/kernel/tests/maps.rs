//! Maps of the running kernel through their handles.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use skep_engine::{LoadOptions, MapHandle as _};
use skep_kernel::{KernelEngine, KernelMap, KernelSession};
use skep_spec::{MapId, MapType, Spec};
use skep_sys::bpf::flags;
use skep_sys::cpu;

fn with_map(map_type: MapType, key: u32, value: u32, entries: u32, map_flags: u32) -> Option<(KernelSession, MapId)> {
    let mut spec = empty();
    let id = add_map(&mut spec, "tested", map_type, key, value, entries);
    spec.maps[0].flags = map_flags;
    made(spec, id)
}

fn made(spec: Spec, id: MapId) -> Option<(KernelSession, MapId)> {
    if !may_load() {
        return None;
    }
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    if let Some(warning) = session.warnings().first() {
        println!("skipped: needs maps of this type ({warning})");
        return None;
    }
    Some((session, id))
}

fn key(n: u32) -> Vec<u8> {
    n.to_ne_bytes().to_vec()
}

fn value(n: u64) -> Vec<u8> {
    n.to_ne_bytes().to_vec()
}

#[test]
fn elements_come_and_go() {
    let Some((session, id)) = with_map(MapType::HASH, 4, 8, 4, 0) else { return };
    let map = session.kernel_map(id).unwrap();
    assert_eq!(map.lookup(&key(1)).unwrap(), None);
    map.update(&key(1), &value(10), flags::NOEXIST).unwrap();
    assert!(map.update(&key(1), &value(11), flags::NOEXIST).is_err());
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(value(10)));
    assert_eq!(map.next_key(None).unwrap(), Some(key(1)));
    assert_eq!(map.next_key(Some(&key(1))).unwrap(), None);
    assert!(map.delete(&key(1)).unwrap());
    assert!(!map.delete(&key(1)).unwrap());
    let error = map.lookup(&[1, 2]).unwrap_err();
    assert_eq!(error.to_string(), "map `tested`: a key has 4 bytes, not 2");
    for n in 0..4 {
        map.update(&key(n), &value(0), 0).unwrap();
    }
    let error = map.update(&key(9), &value(0), 0).unwrap_err();
    assert_eq!(error.to_string(), "map `tested` is full with 4 elements");
    assert_eq!(error.hint(), Some("raise its `max_entries`"));
}

#[test]
fn many_elements_at_once_are_all_there() {
    let Some((session, id)) = with_map(MapType::HASH, 4, 8, 5000, 0) else { return };
    let map = session.kernel_map(id).unwrap();
    let wanted: Vec<_> = (0..3000).map(|n| (key(n), value(u64::from(n) * 2))).collect();
    map.update_many(&wanted, 0).unwrap();
    let mut found = map.entries().unwrap();
    found.sort_by_key(|(key, _)| u32::from_ne_bytes(key[..].try_into().unwrap()));
    assert_eq!(found, wanted);
    // Absent keys in between do not stop it.
    let gone: Vec<_> = (1000..4000).map(key).collect();
    map.delete_many(&gone).unwrap();
    assert_eq!(map.entries().unwrap().len(), 1000);
    let mut drained = map.drain().unwrap();
    drained.sort_by_key(|(key, _)| u32::from_ne_bytes(key[..].try_into().unwrap()));
    assert_eq!(drained, wanted[..1000]);
    assert_eq!(map.entries().unwrap(), []);
}

#[test]
fn per_cpu_values_are_one_for_each_possible_cpu() {
    let Some((session, id)) = with_map(MapType::PERCPU_ARRAY, 4, 4, 2, 0) else { return };
    let map = session.kernel_map(id).unwrap();
    let cpus = cpu::possible_count();
    assert_eq!(map.facts().values_per_key as usize, cpus);
    // Each value takes eight bytes, though it has four.
    let values: Vec<u8> = (0..cpus as u64).flat_map(|cpu| (cpu + 1).to_ne_bytes()).collect();
    map.update(&key(1), &values, 0).unwrap();
    assert_eq!(map.lookup(&key(1)).unwrap(), Some(values));
    assert_eq!(map.lookup(&key(0)).unwrap(), Some(vec![0; cpus * 8]));
    assert!(map.update(&key(0), &[0; 4], 0).is_err());
    assert_eq!(map.entries().unwrap().len(), 2);
}

#[test]
fn queues_have_no_keys() {
    let Some((session, id)) = with_map(MapType::QUEUE, 0, 8, 4, 0) else { return };
    let map = session.kernel_map(id).unwrap();
    map.update(&[], &value(1), 0).unwrap();
    map.update(&[], &value(2), 0).unwrap();
    assert_eq!(map.lookup(&[]).unwrap(), Some(value(1)));
    assert_eq!(map.take(&[]).unwrap(), Some(value(1)));
    assert_eq!(map.take(&[]).unwrap(), Some(value(2)));
    assert_eq!(map.take(&[]).unwrap(), None);
}

#[test]
fn mapped_arrays_are_the_same_memory() {
    let Some((session, id)) = with_map(MapType::ARRAY, 4, 12, 3, flags::F_MMAPABLE) else { return };
    let map = session.kernel_map(id).unwrap();
    let memory = map.memory().unwrap();
    map.update(&key(1), &[7; 12], 0).unwrap();
    let mut seen = [0; 12];
    // The second value starts at 16: sizes are rounded up to 8.
    memory.read(16, &mut seen).unwrap();
    assert_eq!(seen, [7; 12]);
    memory.write(32, b"written here").unwrap();
    assert_eq!(map.lookup(&key(2)).unwrap().unwrap(), b"written here");
    assert!(memory.read(memory.len() - 1, &mut seen).is_err());
    assert!(memory.write(usize::MAX, b"x").is_err());
}

#[test]
fn a_map_not_made_to_be_mapped_says_so() {
    let Some((session, id)) = with_map(MapType::ARRAY, 4, 8, 1, 0) else { return };
    let error = session.kernel_map(id).unwrap().memory().unwrap_err();
    assert_eq!(error.to_string(), "map `tested` was not made to be mapped");
}

#[test]
fn an_arena_is_mapped_where_its_pointers_point() {
    if !kernel(6, 9) {
        return;
    }
    let at = 1u64 << 44;
    let mut spec = empty();
    let id = add_map(&mut spec, "arena", MapType::ARENA, 0, 0, 10);
    spec.maps[0].flags = flags::F_MMAPABLE;
    spec.maps[0].map_extra = at;
    let Some((session, id)) = made(spec, id) else { return };
    let memory = session.kernel_map(id).unwrap().memory().unwrap();
    assert_eq!(memory.addr() as u64, at);
    assert_eq!(memory.len(), 10 * skep_sys::page_size());
    memory.write(5000, b"hello").unwrap();
    let mut seen = [0; 5];
    memory.read(5000, &mut seen).unwrap();
    assert_eq!(&seen, b"hello");
}

#[test]
fn maps_are_found_by_id_and_gone_when_dropped() {
    let Some((session, id)) = with_map(MapType::LRU_HASH, 4, 8, 16, 0) else { return };
    let facts = session.kernel_map(id).unwrap().facts();
    let again = KernelMap::from_id(facts.id).unwrap();
    assert_eq!(again.facts(), facts);
    drop(session);
    again.update(&key(1), &value(1), 0).unwrap();
    drop(again);
    let error = KernelMap::from_id(facts.id).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no map with id {}", facts.id));
}
