//! The reload of the configuration while `callspan run` works.

use std::path::PathBuf;

use super::RunningService;
use crate::call::config::Config as CallConfig;
use crate::ops::config::{Config, ConfigError, ConfigPurpose};
use crate::ops::status::RefusedReload;
use crate::ops::{log, output};
use crate::service::mirror_watch::MirrorTimes;
use crate::service::reload::{self, ConfigChanges, ConfigReading};
use crate::service::{clock, post_process};

/// Starts a thread that reads the configuration file again. Returns `None` if the thread cannot be started.
pub(super) fn read_config_again(file: PathBuf) -> Option<ConfigReading> {
    let started = ConfigReading::start(move || crate::cmd::load_config(Some(&file), ConfigPurpose::Run));
    started.inspect_err(|error| output::warn(&format!("callspan: the old configuration stays in use: {error}"))).ok()
}

impl RunningService {
    /// Applies the changes of the configuration that need no restart. If the configuration has a mistake, nothing
    /// changes.
    pub(super) fn reload(&mut self, read: anyhow::Result<Config>) {
        let new = match read {
            Ok(new) => new,
            Err(error) => {
                output::warn(&format!("callspan: the old configuration stays in use: {error:#}"));
                let reason = error.downcast_ref().map_or_else(|| error.to_string(), ConfigError::without_values);
                self.status.refused_reload = Some(RefusedReload { at: clock::wall_clock(), reason });
                return self.put_status();
            }
        };
        self.status.refused_reload = None;
        self.put_status();
        let changes = ConfigChanges::between(&self.config, &new);
        let new = reload::usable_without_restart(&self.config, new);
        let engine_config = CallConfig { test_key: self.test_key.clone(), ..post_process::engine_config(&new) };
        self.pipeline.engine.reload(engine_config);
        self.alerts.reload(&new.alerts);
        self.mirror.reload(MirrorTimes::of(&new.alerts));
        log::set_level(&new.log.level);
        if changes.taken.contains(&ConfigChanges::LOGIN) {
            self.post_processor.reload(&new);
        }
        // The note about the reload is no log line: it is always printed, because a person requested the reload.
        output::note(&format!("callspan: the configuration was read again; {}", changes.sentence()));
        self.config = new;
    }
}
