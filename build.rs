//! Links the system's libspeex for the feature `speex`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "speex")]
    link_speex();
}

/// pkg-config tells cargo how to link, and cargo itself when to ask again.
#[cfg(feature = "speex")]
fn link_speex() {
    if let Err(why) = pkg_config::Config::new().atleast_version("1.2").probe("speex") {
        eprintln!(
            "callspan decodes Speex with the system's libspeex, which was not found.\n\
             Install its development files (Debian: apt-get install libspeex-dev pkg-config), or build without Speex:\n\
             cargo build --no-default-features\n\n{why}"
        );
        std::process::exit(1);
    }
}
