//! Links the system's libspeex for the feature `speex`, and finds out what the tests can use on this machine.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "speex")]
    link_speex();
    describe_machine();
}

/// Prints the linker flags that pkg-config reports; pkg-config also makes cargo ask again when they may have changed.
#[cfg(feature = "speex")]
fn link_speex() {
    if let Err(why) = pkg_config::Config::new().atleast_version("1.2").probe("speex") {
        eprintln!(
            "callspan decodes Speex with the system's libspeex, which was not found.\n\
             Install its development files (Debian: apt-get install libspeex-dev pkg-config), or build without Speex:\n\
             cargo build --no-default-features --features service\n\n{why}"
        );
        std::process::exit(1);
    }
}

/// Sets a cfg for each tool, privilege and folder that some tests need. A test whose need is not met is ignored, with
/// the reason in its attribute: `#[cfg_attr(not(has_tshark), ignore = "needs tshark")]`.
fn describe_machine() {
    let capabilities = effective_capabilities();
    let may = |bit: u32| capabilities >> bit & 1 == 1;
    let has_ip = has_program("ip");
    let needs = [
        ("has_tshark", has_program("tshark")),
        ("has_ffmpeg", has_program("ffmpeg")),
        ("has_c_compiler", has_program("cc")),
        ("has_chromium", has_program("chromium") && has_program("chromedriver")),
        ("has_systemd_analyze", has_program("systemd-analyze")),
        ("has_bcg729", has_program("cc") && has_bcg729()),
        ("has_postgres", has_program("setpriv") && may(CAP_SETUID) && Path::new("/usr/lib/postgresql").is_dir()),
        ("has_moto", has_program("moto_server")),
        ("has_python", has_program("python3")),
        ("has_landlock", has_landlock()),
        ("may_capture", may(CAP_NET_RAW)),
        ("may_mount", may(CAP_SYS_ADMIN) && has_program("mount")),
        ("may_add_interfaces", may(CAP_NET_ADMIN) && may(CAP_NET_RAW) && has_ip),
        ("may_add_namespaces", may(CAP_SYS_ADMIN) && may(CAP_NET_ADMIN) && has_ip && has_program("setpriv")),
        ("has_corpus_captures", has_corpus("captures")),
        ("has_corpus_codecs", has_corpus("codecs")),
        ("has_corpus_pcaps", has_corpus("pcaps")),
        ("has_corpus_torture", has_corpus("torture")),
    ];
    for (name, is_met) in needs {
        println!("cargo:rustc-check-cfg=cfg({name})");
        if is_met {
            println!("cargo:rustc-cfg={name}");
        }
    }
    // Installing a package changes these. Cargo would build again and again for a path that does not exist.
    for path in ["/usr/bin", "/usr/sbin", "/var/lib/dpkg/status"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // Another user has other privileges.
    println!("cargo:rerun-if-env-changed=USER");
    println!("cargo:rerun-if-env-changed=CALLSPAN_CORPUS");
}

/// Returns the capabilities of this process as bits (capabilities(7)); 0 where the system does not report them.
fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Returns true if the kernel has Landlock. Python asks for the version of its interface, because the file with the list of
/// security modules is often not mounted.
fn has_landlock() -> bool {
    // landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
    let ask = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) < 1)";
    std::process::Command::new("python3").args(["-c", ask]).status().is_ok_and(|status| status.success())
}

fn has_bcg729() -> bool {
    ["/usr/include", "/usr/local/include"].iter().any(|folder| Path::new(folder).join("bcg729/decoder.h").is_file())
}

/// Returns true if `CALLSPAN_CORPUS` names a folder that has this one in it.
fn has_corpus(folder: &str) -> bool {
    std::env::var_os("CALLSPAN_CORPUS").is_some_and(|root| PathBuf::from(root).join(folder).is_dir())
}

// Numbers of linux/capability.h.
const CAP_SETUID: u32 = 7;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
