//! Containers, by what their runtimes call their cgroups, and cgroups by what a person types.
//!
//! The kernel knows no containers, only namespaces and cgroups. Each runtime puts a container into a cgroup of its own and
//! writes the container's id into the name:
//!
//! ```text
//! docker-ID.scope  cri-containerd-ID.scope  crio-ID.scope  libpod-ID.scope  nerdctl-ID.scope     under systemd
//! docker/ID  kubepods/.../podUID/ID  NAMESPACE/ID                                                without
//! lxc.payload.NAME  lxc/NAME  machine-NAME.scope  systemd-nspawn@NAME.service                    named, not numbered
//! ```
//!
//! So the cgroups of all processes (`/proc/PID/cgroup`) tell which containers run. Names that people gave are in the files of
//! docker and podman, and in the names of the log files that a kubelet makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use skep_spec::nearest::did_you_mean;

use super::names::cgroup_mounts;
use crate::Error;

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2: u64 = 0x6367_7270;

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Container {
    /// As its runtime numbers or names it.
    id: String,
    runtime: &'static str,
    /// Its cgroup, below the mount.
    path: String,
    /// What people call it.
    names: Vec<String>,
}

impl Container {
    /// `web (docker 0123456789ab)`.
    fn shown(&self) -> String {
        let short = if is_number(&self.id) { &self.id[..12] } else { &self.id };
        match self.names.first() {
            Some(name) => format!("{name} ({} {short})", self.runtime),
            None => format!("{short} ({})", self.runtime),
        }
    }
}

/// The folder of the cgroup that holds a container.
///
/// # Errors
///
/// When none that runs has this id, beginning of an id or name, or several have; with those that run.
pub(super) fn cgroup_of(wanted: &str) -> Result<PathBuf, Error> {
    let all = running(Path::new("/"));
    let found = pick(wanted, &all)?;
    let mount = unified()?;
    Ok(mount.join(found.path.trim_start_matches('/')))
}

/// The folder of a cgroup: a path, whole or below the mount.
///
/// # Errors
///
/// When there is none, with those beside it.
pub(super) fn cgroup_at(wanted: &Path) -> Result<PathBuf, Error> {
    let mount = unified()?;
    let path = if wanted.starts_with(&mount) || wanted.is_dir() {
        wanted.to_owned()
    } else {
        mount.join(wanted.strip_prefix("/").unwrap_or(wanted))
    };
    if path.is_dir() {
        return match skep_sys::mount::magic_of(&path) {
            Some(CGROUP2) => Ok(path),
            _ => Err(Error::new(format!("`{}` is no cgroup", path.display()))
                .with_hint(format!("cgroups are the folders under `{}`", mount.display()))),
        };
    }
    let parent = path.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(&mount);
    let missing = path.strip_prefix(parent).ok().and_then(|rest| rest.iter().next()).unwrap_or_default();
    let missing = missing.to_string_lossy();
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let error = Error::new(format!("there is no cgroup `{}`", path.display()));
    Err(match did_you_mean(&missing, names.iter().map(String::as_str)) {
        Some(hint) => error.with_hint(hint),
        None if names.is_empty() => error.with_hint(format!("`{}` has no cgroup in it", parent.display())),
        None => error.with_hint(format!("in `{}` there are {}", parent.display(), names.join(", "))),
    })
}

/// Where cgroup v2 is mounted.
fn unified() -> Result<PathBuf, Error> {
    let mut mounts = cgroup_mounts().into_iter();
    mounts
        .find(|(name, _)| name == "unified")
        .map(|(_, path)| path)
        .ok_or_else(|| Error::new("cgroup v2 is not mounted").with_hint("type `mount -t cgroup2 none /sys/fs/cgroup`"))
}

fn pick<'c>(wanted: &str, all: &'c [Container]) -> Result<&'c Container, Error> {
    let exact: Vec<&Container> =
        all.iter().filter(|one| one.id == wanted || one.names.iter().any(|name| name == wanted)).collect();
    let begins = || all.iter().filter(|one| is_number(&one.id) && one.id.starts_with(wanted)).collect();
    let found = if exact.is_empty() && !wanted.is_empty() { begins() } else { exact };
    let shown = |list: &[&Container]| list.iter().map(|one| one.shown()).collect::<Vec<_>>().join(", ");
    match found[..] {
        [one] => Ok(one),
        [] => {
            let error = Error::new(format!("there is no container `{wanted}`"));
            let every: Vec<&Container> = all.iter().collect();
            Err(match every.is_empty() {
                true => error.with_hint("no container runs here: none of the cgroups of `/proc/*/cgroup` is one's"),
                false => error.with_hint(format!("these run: {}", shown(&every))),
            })
        }
        _ => Err(Error::new(format!("several containers are `{wanted}`"))
            .with_hint(format!("say which by more of its id or name: {}", shown(&found)))),
    }
}

/// Every container that has a process, by the files under `root`.
fn running(root: &Path) -> Vec<Container> {
    let mut all: BTreeMap<String, Container> = BTreeMap::new();
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let Ok(text) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
        let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { continue };
        for container in of_path(path) {
            all.entry(container.path.clone()).or_insert(container);
        }
    }
    let mut all: Vec<Container> = all.into_values().collect();
    let logs = kubernetes_names(root);
    let podman = fs::read_to_string(root.join("var/lib/containers/storage/overlay-containers/containers.json"));
    let podman = podman.unwrap_or_default();
    for one in &mut all {
        let docker = root.join("var/lib/docker/containers").join(&one.id).join("config.v2.json");
        one.names.extend(fs::read_to_string(docker).ok().as_deref().and_then(docker_name));
        one.names.extend(podman_names(&podman, &one.id));
        one.names.extend(logs.iter().filter(|(id, _)| *id == one.id).flat_map(|(_, names)| names.clone()));
    }
    all
}

/// The containers that a cgroup lies in, from the outermost in.
fn of_path(path: &str) -> Vec<Container> {
    let mut found = Vec::new();
    let mut at = String::new();
    let mut parent = "";
    for part in path.split('/').filter(|part| !part.is_empty()) {
        at = format!("{at}/{part}");
        if let Some((runtime, id)) = identify(part, parent) {
            found.push(Container { id, runtime, path: at.clone(), names: Vec::new() });
        }
        parent = part;
    }
    found
}

/// Runtime and id in the name of a cgroup.
fn identify(part: &str, parent: &str) -> Option<(&'static str, String)> {
    const SCOPES: [(&str, &str); 5] = [
        ("docker-", "docker"),
        ("cri-containerd-", "containerd"),
        ("crio-", "cri-o"),
        ("libpod-", "podman"),
        ("nerdctl-", "containerd"),
    ];
    if let Some(name) = part.strip_suffix(".scope") {
        let scope = SCOPES.iter().find_map(|(prefix, runtime)| Some((*runtime, name.strip_prefix(prefix)?)));
        return match scope {
            Some((runtime, id)) => is_number(id).then(|| (runtime, id.to_owned())),
            None => name.strip_prefix("machine-").map(|name| ("machine", unescaped(name))),
        };
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return Some(("nspawn", unescaped(name)));
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(("lxc", name.to_owned()));
    }
    match parent {
        "lxc" => Some(("lxc", part.to_owned())),
        "docker" if is_number(part) => Some(("docker", part.to_owned())),
        _ if parent.starts_with("pod") && is_number(part) => Some(("kubernetes", part.to_owned())),
        // What containerd calls a namespace.
        _ if is_number(part) => Some(("containerd", part.to_owned())),
        _ => part.strip_prefix("libpod-").filter(|id| is_number(id)).map(|id| ("podman", id.to_owned())),
    }
}

/// 64 hexadecimal digits, as every runtime numbers by.
fn is_number(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Without systemd's `\x2d` for `-`.
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-")
}

/// The name in docker's file about a container. No other name in it begins with a slash.
fn docker_name(config: &str) -> Option<String> {
    let rest = config.split_once("\"Name\":\"/")?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The names of a container in podman's list: `{"id":"ID","names":["web"], ...`.
fn podman_names(list: &str, id: &str) -> Vec<String> {
    let Some((_, rest)) = list.split_once(&format!("\"id\":\"{id}\"")) else { return Vec::new() };
    let own = rest.split("\"id\":").next().unwrap_or_default();
    let names = own.split_once("\"names\":[").and_then(|(_, names)| names.split_once(']'));
    let names = names.map_or("", |(names, _)| names).split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Ids with names, from a kubelet's log files `POD_NAMESPACE_CONTAINER-ID.log`: pod and container, the container, the pod.
fn kubernetes_names(root: &Path) -> Vec<(String, Vec<String>)> {
    let entries = fs::read_dir(root.join("var/log/containers")).into_iter().flatten().filter_map(Result::ok);
    let parse = |file: String| {
        let (rest, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
        let mut parts = rest.splitn(3, '_');
        let (pod, _namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some((id.to_owned(), vec![format!("{pod}/{container}"), container.to_owned(), pod.to_owned()]))
    };
    entries.filter_map(|entry| parse(entry.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const TWO: &str = "0199456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_runtimes_cgroup_tells_the_container() {
        let id = |path: String| of_path(&path).into_iter().map(|one| (one.runtime, one.id)).collect::<Vec<_>>();
        let one = |runtime| vec![(runtime, ONE.to_owned())];
        assert_eq!(id(format!("/system.slice/docker-{ONE}.scope")), one("docker"));
        assert_eq!(id(format!("/docker/{ONE}")), one("docker"));
        assert_eq!(
            id(format!("/kubepods.slice/kubepods-burstable.slice/kubepods-pod1_2.slice/cri-containerd-{ONE}.scope")),
            one("containerd")
        );
        assert_eq!(id(format!("/kubepods/besteffort/pod77aa/{ONE}/app")), one("kubernetes"));
        assert_eq!(id(format!("/kubepods.slice/crio-{ONE}.scope")), one("cri-o"));
        assert_eq!(id(format!("/machine.slice/libpod-{ONE}.scope/container")), one("podman"));
        assert_eq!(id(format!("/machine.slice/libpod-conmon-{ONE}.scope")), []);
        assert_eq!(id(format!("/default/{ONE}")), one("containerd"));
        assert_eq!(id("/lxc.payload.web".into()), [("lxc", "web".to_owned())]);
        assert_eq!(id("/machine.slice/machine-my\\x2dbox.scope/payload".into()), [("machine", "my-box".to_owned())]);
        assert_eq!(id("/user.slice/user-0.slice/session-1.scope".into()), []);
        // One in another.
        assert_eq!(id(format!("/docker/{ONE}/docker/{TWO}")).len(), 2);
    }

    #[test]
    fn a_container_is_found_by_id_and_name() {
        let root = std::env::temp_dir().join(format!("skep-containers-{}", std::process::id()));
        let write = |path: String, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let three = ONE.replace("0123", "abcd");
        write("proc/7/cgroup".into(), &format!("0::/system.slice/docker-{ONE}.scope\n"));
        write("proc/8/cgroup".into(), &format!("1:cpu:/x\n0::/machine.slice/libpod-{TWO}.scope\n"));
        write("proc/9/cgroup".into(), &format!("0::/kubepods/pod1/{three}\n"));
        write("proc/self/cgroup".into(), "0::/lxc.payload.nobody\n");
        write(
            format!("var/lib/docker/containers/{ONE}/config.v2.json"),
            r#"{"RestartPolicy":{"Name":"no"},"Name":"/web"}"#,
        );
        write(
            "var/lib/containers/storage/overlay-containers/containers.json".into(),
            &format!(r#"[{{"id":"77","names":["other"]}},{{"id":"{TWO}","names":["db","data"],"image":"x"}}]"#),
        );
        write(format!("var/log/containers/shop-5f_prod_cart-{three}.log"), "");
        let all = running(&root);
        fs::remove_dir_all(&root).unwrap();
        let id = |wanted: &str| pick(wanted, &all).map(|one| one.id.clone());
        for (wanted, found) in
            [("web", ONE), ("012", ONE), (ONE, ONE), ("data", TWO), ("cart", &three), ("shop-5f/cart", &three)]
        {
            assert_eq!(id(wanted).unwrap(), found, "{wanted}");
        }
        let refused = |wanted: &str| id(wanted).unwrap_err();
        assert_eq!(refused("wob").to_string(), "there is no container `wob`");
        let hint =
            "these run: shop-5f/cart (kubernetes abcd456789ab), db (podman 0199456789ab), web (docker 0123456789ab)";
        assert_eq!(refused("wob").hint(), Some(hint));
        assert_eq!(refused("01").to_string(), "several containers are `01`");
        assert!(pick("x", &[]).unwrap_err().hint().unwrap().starts_with("no container runs here"));
    }
}
