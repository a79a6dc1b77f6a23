//! `calls play`: plays a recording with an audio player of this machine, or prints the path of the recording.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use super::{JournalLocation, PlayArgs, known, shown};
use crate::call::record::{CallRecord, RecordingFile};
use crate::cmd::EXIT_FAILED;
use crate::ops::output;

/// An audio player: a program that plays files.
struct SoundPlayer {
    program: &'static str,
    args: &'static [&'static str],
    plays_ogg: bool,
}

pub(super) fn play(place: &JournalLocation, args: &PlayArgs) -> anyhow::Result<ExitCode> {
    let record = known(&place.open_read_only()?, &args.id)?.record;
    let file = chosen(&record, args.part)?;
    let path = Path::new(&file.path);
    if !path.is_file() {
        bail!("{} does not exist; `callspan calls show {}` says why", shown(path), record.id);
    }
    let player = if has_sound_card() { player_for(file) } else { None };
    let (true, Some(player)) = (file.plain_sha256.is_none(), player) else {
        output::result(&format!("{}\n", shown(path)))?;
        output::note(&format!("callspan: {}", why_not_played(file)));
        return Ok(ExitCode::SUCCESS);
    };
    output::note(&format!("callspan: {} (left: caller, right: called party); Ctrl-C stops", shown(path)));
    let status = Command::new(player.program)
        .args(player.args)
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} cannot be started", player.program))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn chosen(record: &CallRecord, part: u32) -> anyhow::Result<&RecordingFile> {
    match record.recordings.iter().find(|file| file.part == part) {
        Some(file) => Ok(file),
        None if record.recordings.is_empty() => {
            let why = record.verdict_reason.as_deref().unwrap_or("the call is not rendered yet");
            bail!("call {} has no recording: {}", record.id, crate::cmd::table::printable(why))
        }
        None => bail!("call {} has parts 1 to {}", record.id, record.recordings.len()),
    }
}

fn why_not_played(file: &RecordingFile) -> &'static str {
    match file.plain_sha256 {
        Some(_) => "the recording is encrypted: decrypt it with age -d -i KEYFILE -o call.wav FILE",
        None if !has_sound_card() => {
            "this machine has no sound card: copy the file to one that has, for example with scp"
        }
        None => "no player is installed: apt-get install alsa-utils (aplay), or pipewire-bin, pulseaudio-utils, ffmpeg",
    }
}

fn player_for(file: &RecordingFile) -> Option<&'static SoundPlayer> {
    let is_ogg = file.path.ends_with(".ogg");
    PLAYERS.iter().find(|player| (player.plays_ogg || !is_ogg) && is_installed(player.program))
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Returns whether ALSA has a sound card, or whether a sound server of this user runs.
fn has_sound_card() -> bool {
    let cards = std::fs::read_to_string("/proc/asound/cards").unwrap_or_default();
    let has_card = cards.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let has_server = runtime.is_some_and(|dir| ["pulse/native", "pipewire-0"].iter().any(|s| dir.join(s).exists()));
    has_card || has_server || std::env::var_os("PULSE_SERVER").is_some()
}

/// Known audio players, in the order in which they are tried. Players that use a sound server come first, because they
/// work even while another program plays sound.
const PLAYERS: [SoundPlayer; 5] = [
    SoundPlayer { program: "pw-play", args: &[], plays_ogg: true },
    SoundPlayer { program: "paplay", args: &[], plays_ogg: true },
    SoundPlayer { program: "aplay", args: &["-q"], plays_ogg: false },
    SoundPlayer { program: "ffplay", args: &["-nodisp", "-autoexit", "-loglevel", "error"], plays_ogg: true },
    SoundPlayer { program: "play", args: &["-q"], plays_ogg: true },
];
