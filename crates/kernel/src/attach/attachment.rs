//! An attached program.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use skep_engine::{Error, Link};
use skep_sys::bpf::{LinkFd, LinkId, LinkInfo, LinkType, Object, obj_get, obj_pin};
use skep_sys::perf_event::PerfEvent;
use skep_sys::undo::Guard;
use skep_sys::{Errno, bpffs};

use crate::map::{failed, path_string};

/// A program that is attached, at one place or at several. Dropping it detaches, unless it was pinned.
pub struct Attachment {
    what: String,
    holds: Vec<Hold>,
    notes: Vec<String>,
    /// Its names in a bpffs.
    pins: Vec<PathBuf>,
}

/// What keeps a program attached.
pub(super) enum Hold {
    /// A kernel link.
    Link(LinkFd),
    /// A perf event whose program was set without a link; a kernel before 5.15.
    Event(PerfEvent),
    /// Something whose closing is all that is needed: the socket of a filter.
    Descriptor(OwnedFd),
    /// Something that has to be taken back by a call.
    Legacy(Legacy),
    /// Something to be given back when the program has been detached.
    Lease(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send>),
}

/// A way to attach that does not end with a descriptor.
pub(super) struct Legacy {
    undo: Option<Undoing>,
    guard: Option<Guard>,
    /// The kernel that has a link for this.
    link_since: &'static str,
}

type Undoing = Box<dyn FnOnce() -> Result<(), Errno> + Send>;

impl Legacy {
    pub(super) fn new(
        link_since: &'static str,
        guard: Option<Guard>,
        undo: impl FnOnce() -> Result<(), Errno> + Send + 'static,
    ) -> Legacy {
        Legacy { undo: Some(Box::new(undo)), guard, link_since }
    }

    fn undo(&mut self) -> Result<(), Errno> {
        let Some(undo) = self.undo.take() else { return Ok(()) };
        let result = undo();
        // The guard is only sent home when the work is done; else it tries once more when this process ends.
        if result.is_ok()
            && let Some(guard) = self.guard.take()
        {
            guard.dismiss();
        }
        result
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        // Nobody can be told here; `Attachment::detach` tells.
        let _ = self.undo();
    }
}

impl Attachment {
    pub(super) fn new(what: impl Into<String>, hold: Hold) -> Attachment {
        Attachment::of(what, vec![hold])
    }

    pub(super) fn of(what: impl Into<String>, holds: Vec<Hold>) -> Attachment {
        Attachment { what: what.into(), holds, notes: Vec::new(), pins: Vec::new() }
    }

    /// An attachment by its pinned link. It stays when this value is dropped; [`Link::detach`] and [`Link::unpin`] take the name
    /// away.
    ///
    /// # Errors
    ///
    /// When there is nothing at `path`, or something else.
    pub fn from_pinned(path: &Path) -> Result<Attachment, Error> {
        match obj_get(None, &path_string(path)?, 0) {
            Ok(Object::Link(link)) => {
                let mut attachment = Attachment::known(link)?;
                attachment.pins.push(path.to_owned());
                Ok(attachment)
            }
            Ok(_) => Err(Error::new(format!("{} is pinned, but is not a link", path.display()))),
            Err(errno) => Err(failed(&format!("cannot open the pinned link {}", path.display()), errno)),
        }
    }

    /// An attachment by its link's id, as `bpftool link` numbers them. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or the right is missing.
    pub fn from_id(id: u32) -> Result<Attachment, Error> {
        let link = LinkFd::from_id(LinkId(id)).map_err(|errno| match errno {
            Errno::ENOENT => Error::new(format!("there is no link with id {id}")).with_source(errno),
            _ => failed(&format!("cannot open the link with id {id}"), errno),
        })?;
        Attachment::known(link)
    }

    /// An attachment by the descriptor of its link.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell about it.
    pub fn from_link(link: LinkFd) -> Result<Attachment, Error> {
        Attachment::known(link)
    }

    fn known(link: LinkFd) -> Result<Attachment, Error> {
        let info = link.info().map_err(|errno| failed("the kernel does not tell about the link", errno))?;
        let what = match info.link_type.name() {
            Some(name) => format!("{name} link {}", info.id),
            None => format!("link {}", info.id),
        };
        Ok(Attachment::new(what, Hold::Link(link)))
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Attachment {
        self.notes.push(note.into());
        self
    }

    /// What a person should know about this attachment, such as arguments that cannot be read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The kernel's links, in the order of their places; empty where an old kernel has none.
    pub fn links(&self) -> impl Iterator<Item = &LinkFd> {
        self.holds.iter().filter_map(|hold| match hold {
            Hold::Link(link) => Some(link),
            _ => None,
        })
    }

    /// What the kernel says about each of its links.
    pub fn info(&self) -> Result<Vec<LinkInfo>, Error> {
        self.links()
            .map(|link| link.info().map_err(|errno| failed(&format!("cannot ask about {}", self.what), errno)))
            .collect()
    }

    /// How many places it is attached at: CPUs for a perf event, sites for a USDT probe.
    pub fn places(&self) -> usize {
        self.holds.iter().filter(|hold| !matches!(hold, Hold::Lease(_))).count()
    }

    /// The socket that a filter was put on, when it was opened for that.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.holds.iter().find_map(|hold| match hold {
            Hold::Descriptor(fd) => Some(fd.as_fd()),
            _ => None,
        })
    }

    /// Puts another program in place, without a moment between. With `old`, only if that one is there now.
    ///
    /// # Errors
    ///
    /// Only XDP, tc, cgroup, network namespace, iterator and struct_ops links can be updated.
    pub fn update(&self, new: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut updated = false;
        for link in self.links() {
            link.update(new, old)
                .map_err(|errno| failed(&format!("cannot replace the program at {}", self.what), errno))?;
            updated = true;
        }
        if updated {
            Ok(())
        } else {
            Err(Error::new(format!("cannot replace the program at {}: it has no kernel link", self.what)))
        }
    }

    /// Starts one pass of an iterator program; its text is read from the file.
    pub fn iterate(&self) -> Result<File, Error> {
        let link = self.links().next();
        let link = link.ok_or_else(|| Error::new(format!("{} is not an iterator", self.what)))?;
        link.iter().map(File::from).map_err(|errno| failed(&format!("cannot start {}", self.what), errno))
    }

    fn pin_all(&mut self, path: &Path) -> Result<(), Error> {
        let shown = path.display();
        let cannot = |why: String| Error::new(format!("cannot pin {} at `{shown}`: {why}", self.what));
        for hold in &self.holds {
            match hold {
                Hold::Link(_) | Hold::Lease(_) => {}
                Hold::Event(_) => return Err(cannot("kernels before 5.15 have no link for it".to_owned())),
                Hold::Legacy(legacy) => {
                    return Err(cannot(format!("only kernel {} has a link for it", legacy.link_since)));
                }
                Hold::Descriptor(_) => return Err(cannot("it is bound to a socket of this process".to_owned())),
            }
        }
        if !bpffs::contains(path) {
            return Err(cannot("that is not in a bpffs".to_owned())
                .with_hint(format!("mount one first: `mount -t bpf bpf {}`", bpffs::DEFAULT_PATH)));
        }
        let folder = if self.links().count() > 1 { Some(path) } else { path.parent() };
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|error| {
                cannot(format!("the folder `{}` cannot be made", folder.display())).with_source(error)
            })?;
        }
        let several = self.links().count() > 1;
        let mut pinned = Vec::new();
        for (index, link) in self.links().enumerate() {
            let path = if several { path.join(index.to_string()) } else { path.to_owned() };
            let result = std::ffi::CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Errno::EINVAL)
                .and_then(|c_path| obj_pin(link.as_fd(), None, &c_path));
            if let Err(errno) = result {
                // All or nothing.
                for path in pinned {
                    let _ = std::fs::remove_file(path);
                }
                let error = cannot(errno.to_string());
                return Err(match errno {
                    Errno::EEXIST => error.with_hint(format!("remove it first: `rm {shown}`")),
                    _ => error.with_source(errno),
                });
            }
            pinned.push(path);
        }
        self.pins.extend(pinned);
        Ok(())
    }
}

impl Link for Attachment {
    fn describe(&self) -> String {
        self.what.clone()
    }

    fn detach(mut self: Box<Self>) -> Result<(), Error> {
        let mut result = self.unpin();
        // One after another: an event can be written away only when its link has been closed.
        for mut hold in self.holds.drain(..) {
            let done = match &mut hold {
                // Closing would do, unless somebody else holds the link too; kinds that cannot be detached say so.
                Hold::Link(link) => match link.detach() {
                    Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => Ok(()),
                    other => other,
                },
                Hold::Legacy(legacy) => legacy.undo(),
                Hold::Event(event) => event.disable(),
                Hold::Descriptor(_) | Hold::Lease(_) => Ok(()),
            };
            if let Err(errno) = done
                && result.is_ok()
            {
                result = Err(failed(&format!("cannot detach from {}", self.what), errno));
            }
        }
        result
    }

    fn slow_to_close(&self) -> Vec<BorrowedFd<'_>> {
        let mut descriptors = Vec::new();
        for hold in &self.holds {
            match hold {
                Hold::Link(link) if link.info().is_ok_and(|info| info.link_type == LinkType::PERF_EVENT) => {
                    descriptors.push(link.as_fd());
                }
                Hold::Event(event) => descriptors.push(event.as_fd()),
                // What is given back after the closing (an event in `kprobe_events`) must see it done.
                _ => return Vec::new(),
            }
        }
        descriptors
    }

    fn pin(&mut self, path: &Path) -> Result<(), Error> {
        self.pin_all(path)
    }

    fn unpin(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for path in std::mem::take(&mut self.pins) {
            match std::fs::remove_file(&path) {
                // Somebody was faster.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let what = format!("cannot remove {}, by which {} is pinned", path.display(), self.what);
                    result = Err(Error::new(what).with_source(error));
                    self.pins.push(path);
                }
                _ => {}
            }
        }
        result
    }

    fn update(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        Attachment::update(self, program, None)
    }

    fn exchange(&self, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), Error> {
        Attachment::update(self, new, Some(old))
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.links().map(AsFd::as_fd).collect()
    }

    fn notes(&self) -> &[String] {
        Attachment::notes(self)
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("what", &self.what).field("places", &self.places()).finish_non_exhaustive()
    }
}
