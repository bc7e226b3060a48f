use super::*;

/// A folder of its own under the system's temporary one.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("skep-compiler-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A shell script that plays a compiler; it counts its starts in `starts`.
fn fake(folder: &Path, name: &str, targets: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    let script = format!(
        "#!/bin/sh\necho x >> '{}'\ncase \"$*\" in *-print-targets) echo '  Registered Targets:'; echo '    {targets} - some';; *--version) echo 'Fake clang version 17.0.1 ({name})';; esac\n",
        folder.join("starts").display()
    );
    // By another process: what a thread forks while we write a file keeps it open for a moment, and such a file cannot be run (ETXTBSY).
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let written = Command::new("sh").args(["-c", write]).arg(&path).arg(script).status().unwrap();
    assert!(written.success());
    path
}

fn cache(folder: &Path) -> Cache {
    Cache::at(&folder.join("cache")).unwrap()
}

#[test]
fn plain_clang_comes_before_numbered_ones_and_higher_numbers_first() {
    let home = folder("order");
    let bin = home.join("bin");
    let none = home.join("none");
    fake(&bin, "clang-9", "bpf");
    fake(&bin, "clang-14", "bpf");
    fake(&bin, "clang-format", "bpf");
    let found = find_in(&cache(&home), None, bin.as_os_str(), &none).unwrap();
    assert_eq!(found.version(), "Fake clang version 17.0.1 (clang-14)");
    assert_eq!(found.major(), 17);
    fake(&bin, "clang", "bpf");
    let found = find_in(&cache(&home), None, bin.as_os_str(), &none).unwrap();
    assert_eq!(found.command(), bin.join("clang").display().to_string());
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn llvm_folders_are_searched_when_the_path_has_nothing() {
    let home = folder("llvm");
    fake(&home.join("llvm-15/bin"), "clang", "bpf");
    fake(&home.join("llvm-16/bin"), "clang", "bpf");
    let found = find_in(&cache(&home), None, OsStr::new(""), &home).unwrap();
    assert_eq!(found.command(), home.join("llvm-16/bin/clang").display().to_string());
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_compiler_without_the_bpf_target_is_passed_over_and_named() {
    let home = folder("target");
    let bin = home.join("bin");
    let none = home.join("none");
    fake(&bin, "clang", "x86-64");
    let error = find_in(&cache(&home), None, bin.as_os_str(), &none).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("bin/clang is built without the bpf target"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("install one with ")), "{error:?}");
    fake(&bin, "clang-3", "bpf");
    assert!(find_in(&cache(&home), None, bin.as_os_str(), &none).unwrap().command().ends_with("clang-3"));
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn the_second_search_starts_no_process() {
    let home = folder("twice");
    let bin = home.join("bin");
    fake(&bin, "clang", "bpf");
    let starts = || fs::read_to_string(bin.join("starts")).unwrap_or_default().lines().count();
    find_in(&cache(&home), None, bin.as_os_str(), &home).unwrap();
    let first = starts();
    assert_eq!(first, 2);
    find_in(&cache(&home), None, bin.as_os_str(), &home).unwrap();
    assert_eq!(starts(), first);
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn names_are_remembered_until_a_folder_changes() {
    let home = folder("names");
    let bin = home.join("bin");
    fake(&bin, "clang-9", "bpf");
    let find = || find_in(&cache(&home), None, bin.as_os_str(), &home.join("none")).unwrap().command();
    let notes = || {
        let listing = fs::read_dir(cache(&home).path("compilers")).unwrap().flatten();
        listing.filter(|entry| entry.file_name().to_string_lossy().starts_with("names-")).count()
    };
    let age = |seconds| {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(&bin).unwrap().set_modified(then).unwrap();
    };
    // A folder that changed just now may change again unseen.
    assert!(find().ends_with("clang-9"));
    assert_eq!(notes(), 0);
    age(60);
    assert!(find().ends_with("clang-9"));
    assert!(find().ends_with("clang-9"));
    assert_eq!(notes(), 1);
    fake(&bin, "clang-14", "bpf");
    age(50);
    assert!(find().ends_with("clang-14"));
    fs::remove_file(bin.join("clang-14")).unwrap();
    age(40);
    assert!(find().ends_with("clang-9"));
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn the_variable_wins_takes_arguments_and_never_falls_back() {
    let home = folder("wish");
    let bin = home.join("bin");
    fake(&bin, "clang", "bpf");
    fake(&bin, "mine", "bpf");
    let find = |wish: &str| find_in(&cache(&home), Some(wish.into()), bin.as_os_str(), &home);
    assert!(find("mine").unwrap().command().ends_with("bin/mine"));
    assert!(find("mine clang").unwrap().command().ends_with("bin/mine clang"));
    assert!(find(bin.join("mine").to_str().unwrap()).unwrap().command().ends_with("bin/mine"));
    let text = find("absent").unwrap_err().to_string();
    assert_eq!(text, "$SKEP_CLANG is `absent`, which is not a program that can be run");
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn the_clang_of_a_python_package_is_found() {
    let home = folder("python");
    let bin = home.join("bin");
    let package = home.join("site/ziglang");
    fake(&package, "zig", "bpf");
    fs::create_dir_all(&bin).unwrap();
    let python = bin.join("python3");
    fs::write(&python, format!("#!/bin/sh\necho '{}'\n", package.display())).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let found = find_in(&cache(&home), None, bin.as_os_str(), &home).unwrap();
    assert_eq!(found.command(), format!("{} clang", package.join("zig").display()));
    fs::remove_dir_all(home).unwrap();
}

#[test]
fn the_command_that_installs_follows_the_distribution() {
    assert_eq!(install_command_for("ID=debian\n"), "apt install clang");
    assert_eq!(install_command_for("NAME=\"Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), "apt install clang");
    assert_eq!(install_command_for("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), "dnf install clang");
    assert_eq!(install_command_for("ID=alpine\n"), "apk add clang");
    assert_eq!(install_command_for(""), "python3 -m pip install ziglang");
}

#[test]
fn versions_of_many_vendors_have_a_major_number() {
    assert_eq!(major_of("Debian clang version 14.0.6"), 14);
    assert_eq!(major_of("Ubuntu clang version 18.1.3 (1ubuntu1)"), 18);
    assert_eq!(major_of("clang version 22.1.8"), 22);
    assert_eq!(major_of("something else"), 0);
}
