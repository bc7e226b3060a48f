//! Compiles C programs as `skep run` does, and keeps the objects: `objects FOLDER FILE...` makes `FOLDER/FILE.o` (with a
//! `.bpf.c` of `a/b.bpf.c` becoming `FOLDER/a/b.bpf.o`). Virtual machines without a compiler are given such objects.

use std::error::Error;
use std::path::Path;

use skep_btf::Btf;
use skep_clang::{Clang, Request, Vmlinux};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: objects FOLDER FILE...")?;
    let clang = Clang::find()?;
    let kernel = Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux")?)?;
    for file in args {
        let mut request = Request::new(Path::new(&file));
        request.vmlinux = Some(Vmlinux::from(&kernel));
        let object = clang.compile(&request)?;
        let path = Path::new(&folder).join(&file).with_extension("o");
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, object.bytes)?;
    }
    Ok(())
}
