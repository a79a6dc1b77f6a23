//! `callspan package-files`: writes man pages and shell completions for distribution packages.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, PackageFilesArgs};

/// Runs `callspan package-files`.
///
/// # Errors
/// Fails if a file cannot be written.
pub(crate) fn run(args: &PackageFilesArgs) -> anyhow::Result<ExitCode> {
    write_all(&args.out).with_context(|| format!("cannot write below {}", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(out: &Path) -> std::io::Result<()> {
    let (man, completions) = (out.join("man"), out.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), NAME, &completions)?;
    }
    Ok(())
}

/// Name of the program as man pages and completions show it.
const NAME: &str = "callspan";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let page = read(&format!("man/callspan-{}.1", command.get_name()));
            assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{}", command.get_name());
        }
        assert!(read("man/callspan.1").contains("EXAMPLES") || read("man/callspan.1").contains("Examples:"));
        assert!(!dir.path().join("man/callspan-render-worker.1").exists(), "hidden commands are not for people");
        for (file, word) in [("callspan.bash", "check-config"), ("_callspan", "#compdef"), ("callspan.fish", "replay")]
        {
            assert!(read(&format!("completions/{file}")).contains(word), "{file}");
        }
    }
}
