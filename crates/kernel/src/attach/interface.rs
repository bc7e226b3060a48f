//! Network interfaces by their names, in our network namespace or another.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use skep_engine::Error;
use skep_spec::nearest::did_you_mean;
use skep_sys::caps::Cap;
pub use skep_sys::netlink::Interface;
use skep_sys::{netlink, netns};

use super::request::Request;

/// Every interface of a network namespace; `None` means our own.
pub fn interfaces(namespace: Option<&Path>) -> Result<Vec<Interface>, Error> {
    let list = || netlink::Socket::open()?.interfaces();
    let result = match namespace {
        None => list(),
        Some(path) => netns::open(path)
            .and_then(|fd| netns::within(fd.as_fd(), list))
            .map_err(|errno| cannot_enter(path).with_source(errno))?,
    };
    result.map_err(|error| Error::new("cannot list the network interfaces").with_source(error))
}

pub(super) fn cannot_enter(path: &Path) -> Error {
    Error::new(format!("cannot enter the network namespace `{}`", path.display()))
        .with_hint("give its path: `/var/run/netns/NAME`, or `/proc/PID/ns/net`")
}

/// Runs `work` with the interface that was asked for, in its namespace.
pub(super) fn with<T: Send>(
    request: &Request<'_>,
    work: impl FnOnce(&Interface) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let found = || find(request).and_then(|interface| work(&interface));
    match request.options.net_namespace {
        None => found(),
        Some(path) => {
            let namespace = open_namespace(request, path)?;
            netns::within(namespace.as_fd(), found).map_err(|errno| {
                request.refused(
                    format_args!("cannot enter the network namespace `{}`", path.display()),
                    errno,
                    &[Cap::SYS_ADMIN],
                )
            })?
        }
    }
}

pub(super) fn open_namespace(request: &Request<'_>, path: &Path) -> Result<OwnedFd, Error> {
    netns::open(path).map_err(|errno| {
        request
            .error(format_args!("cannot open the network namespace `{}`", path.display()))
            .with_source(errno)
            .with_hint("give its path: `/var/run/netns/NAME`, or `/proc/PID/ns/net`")
    })
}

fn find(request: &Request<'_>) -> Result<Interface, Error> {
    let all = netlink::Socket::open()
        .and_then(|socket| socket.interfaces())
        .map_err(|error| request.error("cannot list the network interfaces").with_source(error))?;
    let up: Vec<&str> = all.iter().filter(|interface| interface.up).map(|interface| interface.name.as_str()).collect();
    let up = if up.is_empty() { "none is up".to_owned() } else { format!("up: {}", up.join(" ")) };
    let Some(name) = request.options.interface else {
        return Err(request
            .needs("it needs a network interface")
            .with_hint(format!("name one with `--iface IF` ({up})")));
    };
    if let Some(interface) = all.iter().find(|interface| interface.name == name) {
        return Ok(interface.clone());
    }
    let error = request.error(format_args!("there is no network interface `{name}`"));
    let near = did_you_mean(name, all.iter().map(|interface| interface.name.as_str()));
    Err(match near {
        Some(near) => error.with_hint(format!("{near} ({up})")),
        None => error.with_hint(up),
    })
}
