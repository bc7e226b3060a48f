//! Values in the programs' data that are known only when they are loaded.

use std::os::unix::fs::MetadataExt;

use rustix::time::{ClockId, clock_gettime};
use skep_script::plan::{Parameter, ParameterKind};
use skep_spec::Spec;
use skep_spec::map::MapContents;

/// Inode of the first process id namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h, 6.18).
const INIT_PID_NAMESPACE: u64 = 0xefff_fffc;

/// What the values come from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Process of `-c`.
    pub(super) child: Option<u32>,
    /// Process of `-p`.
    pub(super) pid: Option<u32>,
}

/// Writes the values into the first contents of the data maps. A parameter outside its map is left out: it is nobody's.
pub(super) fn fill(spec: &mut Spec, parameters: &[Parameter], known: Known) {
    for parameter in parameters {
        let value = value(parameter.kind, known);
        let Some(map) = spec.maps.get_mut(parameter.map.0 as usize) else { continue };
        let size = map.value_size as usize;
        if !matches!(map.contents, MapContents::Data(_)) {
            map.contents = MapContents::Data(Vec::new());
        }
        if let MapContents::Data(bytes) = &mut map.contents {
            bytes.resize(size.max(bytes.len()), 0);
            let at = parameter.off as usize;
            if let Some(place) = bytes.get_mut(at..at + 8) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
    }
}

fn value(kind: ParameterKind, known: Known) -> u64 {
    match kind {
        ParameterKind::ChildPid => known.child.unwrap_or(0).into(),
        ParameterKind::FilterPid => known.pid.unwrap_or(0).into(),
        ParameterKind::StartTime => {
            let now = clock_gettime(ClockId::Boottime);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        }
        ParameterKind::PidNamespaceDev => pid_namespace().map_or(0, |(dev, _)| dev),
        ParameterKind::PidNamespaceIno => pid_namespace().map_or(0, |(_, ino)| ino),
    }
}

/// Device and inode of our process id namespace; `None` in the machine's first one.
fn pid_namespace() -> Option<(u64, u64)> {
    let facts = std::fs::metadata("/proc/self/ns/pid").ok()?;
    (facts.ino() != INIT_PID_NAMESPACE).then(|| (facts.dev(), facts.ino()))
}

#[cfg(test)]
mod tests {
    use skep_spec::{Map, MapId, MapType};

    use super::*;

    #[test]
    fn values_go_where_the_plan_says() {
        let mut spec = Spec::new("x");
        spec.maps.push(Map::new(".rodata", MapType::ARRAY, 4, 24, 1));
        let parameter = |off, kind| Parameter { map: MapId(0), off, kind };
        let parameters = [
            parameter(8, ParameterKind::ChildPid),
            parameter(16, ParameterKind::FilterPid),
            parameter(20, ParameterKind::FilterPid),
            Parameter { map: MapId(9), off: 0, kind: ParameterKind::StartTime },
        ];
        fill(&mut spec, &parameters, Known { child: Some(7), pid: Some(9) });
        let MapContents::Data(bytes) = &spec.maps[0].contents else { panic!("no data") };
        assert_eq!(bytes.len(), 24);
        assert_eq!((bytes[8], bytes[16], bytes[20]), (7, 9, 0));
    }
}
