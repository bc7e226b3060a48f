//! Maps: flags, batches, what the kernel tells about them, their memory.

use std::collections::BTreeMap;

use skep::btf::{Btf, Builder, IntEncoding, MemberDef, TypeDef};
use skep::insn::Endian;
use skep::spec::map::{BPF_F_MMAPABLE, Map as MapSpec};
use skep::spec::{MapType, ProgType};
use skep::{Access, ElemFlags, Errno, Map, errno_of};

use super::{Pins, Recipe, may_load};

#[test]
fn a_key_is_made_or_replaced_only() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("owners", MapType::HASH, 4, 4, 8).load();
    let map = loaded.map("owners").unwrap();
    let error = map.set_with(&1u32, &1u32, ElemFlags::REPLACE).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), errno_of(&error)),
        ("map `owners` has no such key to replace", Some(Errno::ENOENT))
    );
    map.set_with(&1u32, &1u32, ElemFlags::CREATE).unwrap();
    let error = map.set_with(&1u32, &2u32, ElemFlags::CREATE).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), errno_of(&error)),
        ("map `owners` has this key already", Some(Errno::EEXIST))
    );
    map.set_with(&1u32, &3u32, ElemFlags::REPLACE).unwrap();
    assert_eq!(map.get::<u32, u32>(&1).unwrap(), Some(3));
    let error = map.get_with::<u32, u32>(&1, ElemFlags::LOCK).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("bpf_spin_lock")), "{error}");
    assert_eq!(map.next_key::<u32>(None).unwrap(), Some(1));
    assert_eq!(map.next_key(Some(&1u32)).unwrap(), None);
}

#[test]
fn large_maps_are_read_and_emptied_in_batches() {
    if !may_load() {
        return;
    }
    // With batches in the kernel, and key by key.
    for map_type in [MapType::HASH, MapType::ARRAY, MapType::LPM_TRIE] {
        let mut recipe =
            Recipe::new().map("many", map_type, if map_type == MapType::LPM_TRIE { 8 } else { 4 }, 8, 1000);
        recipe.0.maps[0].flags = if map_type == MapType::LPM_TRIE { 1 } else { 0 };
        let loaded = recipe.load();
        let map = loaded.map("many").unwrap();
        let all: BTreeMap<u32, u64> = (0..1000).map(|n| (n, u64::from(n) + 1)).collect();
        if map_type == MapType::LPM_TRIE {
            let entries: Vec<([u32; 2], u64)> = all.iter().map(|(key, value)| ([32, *key], *value)).collect();
            map.set_many(&entries).unwrap();
            let mut batches = map.batches::<[u32; 2], u64>();
            let mut found = BTreeMap::new();
            while let Some(batch) = batches.next(100).unwrap() {
                assert!(!batch.is_empty() && found.len() + batch.len() <= 1000);
                found.extend(batch.into_iter().map(|([_, key], value)| (key, value)));
            }
            assert_eq!(found, all, "{map_type}");
            continue;
        }
        let entries: Vec<(u32, u64)> = all.clone().into_iter().collect();
        map.set_many_with(&entries, ElemFlags::ANY).unwrap();
        let mut batches = map.batches::<u32, u64>();
        let (mut found, mut steps) = (BTreeMap::new(), 0);
        while let Some(batch) = batches.next(100).unwrap() {
            steps += 1;
            found.extend(batch);
        }
        assert_eq!(found, all, "{map_type}");
        assert!((2..=100).contains(&steps), "{steps} steps");
        assert!(batches.next(100).unwrap().is_none());
        if map_type == MapType::HASH {
            let mut taken = BTreeMap::new();
            let mut batches = map.drain_batches::<u32, u64>();
            while let Some(batch) = batches.next(64).unwrap() {
                taken.extend(batch);
            }
            assert_eq!(taken, all);
            assert!(map.entries::<u32, u64>().unwrap().is_empty());
        }
    }
}

#[test]
fn per_cpu_maps_are_read_in_batches_and_at_once() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("each", MapType::PERCPU_HASH, 4, 4, 64).load();
    let map = loaded.map("each").unwrap();
    let cpus = map.facts().values_per_key;
    let values = |key: u32| -> Vec<u32> { (0..cpus).map(|cpu| key * 100 + cpu).collect() };
    for key in 0..50u32 {
        map.set_per_cpu(&key, &values(key)).unwrap();
    }
    let all: BTreeMap<u32, Vec<u32>> = (0..50).map(|key| (key, values(key))).collect();
    assert_eq!(map.entries_per_cpu::<u32, u32>().unwrap().into_iter().collect::<BTreeMap<_, _>>(), all);
    for key in 0..50u32 {
        assert!(map.remove(&key).unwrap());
    }
    let entries: Vec<(u32, Vec<u32>)> = all.clone().into_iter().collect();
    map.set_many_per_cpu(&entries).unwrap();
    let mut batches = map.batches::<u32, u32>();
    let mut found = BTreeMap::new();
    while let Some(batch) = batches.next_per_cpu(8).unwrap() {
        found.extend(batch);
    }
    assert_eq!(found, all);
}

#[test]
fn the_kernel_tells_what_a_map_is() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new()
        .map("small", MapType::HASH, 4, 8, 16)
        .map("jumps", MapType::PROG_ARRAY, 4, 4, 1)
        .program("target", "tc", "r0 = 7\nexit")
        .load();
    let map = loaded.map("small").unwrap();
    let info = map.info().unwrap();
    assert_eq!((info.name.as_str(), info.map_type, info.max_entries), ("small", MapType::HASH, 16));
    assert_eq!((info.id, info.key_size, info.value_size, info.flags), (map.facts().id, 4, 8, 0));
    assert_eq!((info.frozen, info.btf_id, info.owner, info.extra), (false, None, None, 0));
    assert!(info.memory_bytes.is_some_and(|bytes| bytes > 16 * 12), "{info:?}");
    map.freeze().unwrap();
    assert!(map.info().unwrap().frozen);
    let jumps = loaded.map("jumps").unwrap();
    jumps.set_program(0, &loaded.program("target").unwrap()).unwrap();
    assert_eq!(jumps.info().unwrap().owner, Some(ProgType::SCHED_CLS));
}

#[test]
fn a_pinned_map_is_taken_up_only_if_it_is_the_one_declared() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded = Recipe::new().map("shared", MapType::HASH, 4, 4, 8).load();
    loaded.map("shared").unwrap().pin(pins.path("shared")).unwrap();
    let declared = MapSpec::new("shared", MapType::HASH, 4, 4, 8);
    let map = Map::from_pinned_as(pins.path("shared"), &declared).unwrap();
    assert!(map.differences(&declared).unwrap().is_empty());
    let other = MapSpec { value_size: 8, ..declared };
    assert_eq!(map.differences(&other).unwrap(), ["value size is 8 here and 4 there"]);
    let error = Map::from_pinned_as(pins.path("shared"), &other).unwrap_err().to_string();
    assert!(error.ends_with(": value size is 8 here and 4 there"), "{error}");
    // For reading alone.
    let reader = Map::from_pinned_with(pins.path("shared"), Access::Read).unwrap();
    map.set(&1u32, &5u32).unwrap();
    assert_eq!(reader.get::<u32, u32>(&1).unwrap(), Some(5));
    assert_eq!(errno_of(&reader.set(&1u32, &6u32).unwrap_err()), Some(Errno::EPERM));
    let writer = Map::from_pinned_with(pins.path("shared"), Access::Write).unwrap();
    assert_eq!(errno_of(&writer.get::<u32, u32>(&1).unwrap_err()), Some(Errno::EPERM));
}

#[test]
fn a_map_is_kept_without_its_object() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("a_name_longer_than_the_kernels", MapType::ARRAY, 4, 4, 1).load();
    let map = loaded.map("a_name_longer_than_the_kernels").unwrap().to_owned().unwrap();
    drop(loaded);
    assert_eq!(map.name(), "a_name_longer_than_the_kernels");
    let there = std::thread::spawn(move || {
        map.set(&0u32, &9u32).unwrap();
        Map::from_fd(map.fd().unwrap().try_clone_to_owned().unwrap()).unwrap()
    });
    assert_eq!(there.join().unwrap().get::<u32, u32>(&0).unwrap(), Some(9));
    let file = std::fs::File::open("/proc/self/status").unwrap();
    assert!(Map::from_fd(file.into()).is_err());
}

#[test]
fn an_array_is_memory() {
    if !may_load() {
        return;
    }
    let mut recipe = Recipe::new().map("table", MapType::ARRAY, 4, 8, 4).map("plain", MapType::ARRAY, 4, 8, 4);
    recipe.0.maps[0].flags = BPF_F_MMAPABLE;
    let loaded = recipe.load();
    let map = loaded.map("table").unwrap();
    map.set(&3u32, &33u64).unwrap();
    let memory = map.memory().unwrap();
    assert_eq!(memory.read::<u64>(24).unwrap(), 33);
    memory.write(8, &11u64).unwrap();
    assert_eq!(map.get::<u32, u64>(&1).unwrap(), Some(11));
    assert!(memory.len() >= 32 && !memory.is_empty());
    assert!(memory.read::<u64>(memory.len() - 4).is_err());
    let plain = loaded.map("plain").unwrap();
    assert!(plain.memory().unwrap_err().hint().is_some_and(|hint| hint.contains("BPF_F_MMAPABLE")));
}

#[test]
fn samples_are_sent_to_a_program() {
    if !may_load() {
        return;
    }
    if !skep::kernel_has(skep::KernelFeature::MapType(MapType::USER_RINGBUF)).unwrap() {
        println!("skipped: needs user ring buffers");
        return;
    }
    let loaded =
        Recipe::new().map("commands", MapType::USER_RINGBUF, 0, 0, 4096).map("plain", MapType::ARRAY, 4, 4, 1).load();
    let commands = loaded.map("commands").unwrap().user_ring().unwrap();
    let mut sample = commands.reserve(8).unwrap().unwrap();
    sample.bytes().copy_from_slice(&42u64.to_ne_bytes());
    sample.submit();
    assert_eq!(commands.pending(), 16);
    assert!(loaded.map("plain").unwrap().user_ring().unwrap_err().to_string().contains("not user_ringbuf"));
}

#[test]
fn a_locked_value_is_read_and_set_whole() {
    if !may_load() {
        return;
    }
    // struct locked { struct bpf_spin_lock lock; int value; };
    let mut builder = Builder::new();
    let int = builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
    let member = |name, type_id, bit_offset| MemberDef { name, type_id, bit_offset, bitfield_size: None };
    let lock = TypeDef::Struct { name: "bpf_spin_lock", size: 4, members: &[member("val", int, 0)] };
    let lock = builder.add(lock).unwrap();
    let members = [member("lock", lock, 0), member("value", int, 32)];
    let locked = builder.add(TypeDef::Struct { name: "locked", size: 8, members: &members }).unwrap();
    let mut recipe = Recipe::new().map("locked", MapType::HASH, 4, 8, 4);
    recipe.0.btf = Some(Btf::parse(builder.finish(Endian::NATIVE).unwrap()).unwrap());
    (recipe.0.maps[0].key_type, recipe.0.maps[0].value_type) = (Some(int), Some(locked));
    let loaded = recipe.load();
    let map = loaded.map("locked").unwrap();
    let info = map.info().unwrap();
    assert_eq!((info.key_type, info.value_type), (Some(int.0), Some(locked.0)));
    assert!(!skep::types_by_id(info.btf_id.unwrap()).unwrap().find_by_name("locked").is_empty());
    map.set(&1u32, &[0u32, 5]).unwrap();
    map.set_with(&1u32, &[0u32, 6], ElemFlags::REPLACE | ElemFlags::LOCK).unwrap();
    // The lock itself is never shown.
    assert_eq!(map.get_with::<u32, [u32; 2]>(&1, ElemFlags::LOCK).unwrap(), Some([0, 6]));
    assert_eq!(map.get_with::<u32, [u32; 2]>(&2, ElemFlags::LOCK).unwrap(), None);
}
