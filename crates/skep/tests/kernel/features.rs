//! What the kernel is asked, and what it answers.

use std::process::Command;

use skep::insn::helpers;
use skep::spec::{MapType, ProgType};
use skep::{ErrorKind, KernelFeature, KernelVersion, kernel_has};

use super::may_load;

/// `BPF_F_*`.
const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;
const PRESERVE_ELEMS: u32 = 1 << 11;
const INNER_MAP: u32 = 1 << 12;

#[test]
fn answers_agree_with_the_kernels_version() {
    if !may_load() {
        return;
    }
    let since = |major, minor| KernelVersion::running() >= KernelVersion::new(major, minor, 0);
    let cases = [
        (KernelFeature::MapType(MapType::HASH), true),
        (KernelFeature::MapType(MapType::RINGBUF), since(5, 8)),
        (KernelFeature::MapType(MapType::ARENA), since(6, 9)),
        (KernelFeature::MapType(MapType(999)), false),
        (KernelFeature::MapFlag(NO_PREALLOC), since(4, 6)),
        (KernelFeature::MapFlag(MMAPABLE), since(5, 5)),
        (KernelFeature::MapFlag(PRESERVE_ELEMS), since(5, 10)),
        (KernelFeature::MapFlag(INNER_MAP), since(5, 10)),
        (KernelFeature::MapFlag(1 << 30), false),
        (KernelFeature::ProgramType(ProgType::SOCKET_FILTER), true),
        (KernelFeature::ProgramType(ProgType::XDP), since(4, 8)),
        (KernelFeature::ProgramType(ProgType::SYSCALL), since(5, 14)),
        (KernelFeature::ProgramType(ProgType::TRACING), since(5, 5)),
        (KernelFeature::ProgramType(ProgType(999)), false),
        (KernelFeature::Helper(ProgType::XDP, helpers::MAP_LOOKUP_ELEM), true),
        (KernelFeature::Helper(ProgType::XDP, helpers::RINGBUF_OUTPUT), since(5, 8)),
        // Only tracing programs have a return address to read from.
        (KernelFeature::Helper(ProgType::XDP, helpers::GET_STACKID), false),
        (KernelFeature::Helper(ProgType::KPROBE, helpers::GET_STACKID), true),
        (KernelFeature::Helper(ProgType::XDP, 9999), false),
        (KernelFeature::UprobeMulti, since(6, 6)),
        (KernelFeature::UprobeSession, since(6, 13)),
        (KernelFeature::PerfLink, since(5, 15)),
        (KernelFeature::BoundedLoops, since(5, 3)),
        (KernelFeature::LargePrograms, since(5, 2)),
        (KernelFeature::IsaV2, since(4, 14)),
        (KernelFeature::IsaV3, since(5, 1)),
        (KernelFeature::IsaV4, since(6, 6)),
    ];
    for (feature, expected) in cases {
        assert_eq!(kernel_has(feature).unwrap(), expected, "{feature}");
        // The second time from memory.
        assert_eq!(kernel_has(feature).unwrap(), expected, "{feature}");
    }
    match kernel_has(KernelFeature::ProgramType(ProgType::EXT)) {
        // Some kernels are told to load none.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Denied, "{error}"),
        Ok(has) => assert_eq!(has, since(5, 6)),
    }
    for feature in [KernelFeature::KprobeMulti, KernelFeature::KprobeSession] {
        // A matter of the kernel's configuration; but without the first there is not the second.
        let has = kernel_has(feature).unwrap();
        assert!(!has || kernel_has(KernelFeature::KprobeMulti).unwrap(), "{feature}");
    }
    let error = kernel_has(KernelFeature::Helper(ProgType::LSM, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// The work of the child.
#[test]
fn child_without_rights() {
    if std::env::var_os("SKEP_WITHOUT_RIGHTS").is_none() {
        return;
    }
    let error = kernel_has(KernelFeature::ProgramType(ProgType::XDP)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("CAP_BPF")));
}

#[test]
fn without_rights_there_is_no_answer_and_not_a_wrong_one() {
    if !may_load() {
        return;
    }
    use std::os::unix::process::CommandExt as _;
    // The test binary must be readable by everybody.
    let copy = std::env::temp_dir().join(format!("skep-features-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let ran = Command::new(&copy)
        .args(["--exact", "features::child_without_rights"])
        .env("SKEP_WITHOUT_RIGHTS", "1")
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output();
    std::fs::remove_file(&copy).unwrap();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}
