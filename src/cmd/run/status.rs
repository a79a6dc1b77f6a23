//! What `callspan run` says of its state: the status file, the status line of systemd, and the figures of the console.

use super::RunningService;
use crate::capture::CaptureSource;
use crate::console::ServiceStatus;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::mirror_report::MirrorReport;
use crate::ops::status::{REPORT_INTERVAL, ServiceReport};
use crate::ops::supervision::StalledThread;
use crate::ops::tap_flow::set_rates;
use crate::service::clock;
use crate::text::count;
use crate::time::Timestamp;

impl RunningService {
    /// Notifies the watchdog of systemd if all vital threads make progress. Updates the status line of systemd.
    pub(super) fn show_life(&mut self, source: &mut dyn CaptureSource) {
        for StalledThread { name, since, .. } in self.life.check(clock::monotonic()) {
            self.alerts.raise(&AlarmCause::ThreadStalled { name, since });
        }
        let counters = source.counters();
        let lost = counters.dropped_by_kernel + counters.dropped_by_interface + self.spool.lost_packets();
        let calls = self.pipeline.engine.live_calls();
        self.life.show(format!(
            "{} under way, {} lost, {} to send to Pyrus",
            count(calls, "call"),
            count(lost, "packet"),
            count(self.owed.count(), "call")
        ));
    }

    /// Makes the report that `callspan status` reads, and passes it to the thread that writes files.
    pub(super) fn write_status(&mut self, source: &mut dyn CaptureSource) {
        let now = clock::wall_clock();
        if now.since(self.status.at) < REPORT_INTERVAL {
            return;
        }
        self.retry_console(now);
        let pbxs = self.pipeline.engine.number_plan().pbx_hosts();
        self.pipeline.taps.set_pbxs(pbxs);
        let engine = &self.pipeline.engine;
        let counters = *engine.counters();
        let mut taps = self.pipeline.taps.report(source.taps(), &self.pipeline.decoder);
        set_rates(&mut taps, &self.status.taps, (self.status.at, now));
        let last = |before: u64, after: u64, at: Option<Timestamp>| if after > before { Some(now) } else { at };
        let old = &self.status;
        self.status = ServiceReport {
            at: now,
            is_capturing: source.is_capturing(),
            frames: self.reported.frames,
            dropped_by_kernel: self.reported.dropped_by_kernel,
            dropped_by_interface: self.reported.dropped_by_interface,
            taps,
            spool_lost: self.spool.lost_packets(),
            mirror: MirrorReport::of(self.mirror.directions(), &counters, self.pipeline.decoder.counters()),
            sip_messages: counters.sip_messages,
            rtp_packets: counters.rtp_packets,
            rtp_unclaimed: counters.rtp_unclaimed,
            last_sip_at: last(old.sip_messages, counters.sip_messages, old.last_sip_at),
            last_rtp_at: last(old.rtp_packets, counters.rtp_packets, old.last_rtp_at),
            calls_live: engine.live_calls() as u64,
            calls_ended: counters.calls,
            drops: self.pipeline.drops(),
            owed: self.owed.count() as u64,
            has_login_answer: self.post_processor.delivery().map(|delivery| delivery.is_login_answered()),
            alarms: self.alerts.open_alarms(),
            pbx_hosts: engine.number_plan().pbx_hosts().iter().map(ToString::to_string).collect(),
            extensions: engine.number_plan().registered_extensions() as u64,
            version: old.version.clone(),
            started_at: old.started_at,
            stopped_at: None,
            refused_reload: old.refused_reload.clone(),
            source: old.source.clone(),
        };
        self.put_status();
    }

    pub(super) fn put_status(&self) {
        match self.status.file(&self.config.journal.dir) {
            Ok((path, contents)) => self.state_files.put(path, contents),
            Err(error) => tracing::debug!("the status cannot be written: {error}"),
        }
    }

    pub(super) fn publish(&self) {
        let Some(console) = &self.console else { return };
        let engine = &self.pipeline.engine;
        console.publish(ServiceStatus {
            frames: self.reported.frames,
            dropped_by_kernel: self.reported.dropped_by_kernel,
            dropped_by_interface: self.reported.dropped_by_interface,
            rtp_packets: engine.counters().rtp_packets,
            calls_live: engine.live_calls(),
            legs_live: engine.live_legs(),
            calls_ended: engine.counters().calls,
            alarms: self.alerts.open_alarms().len(),
            drops: self.pipeline.drops(),
            owed: None,
        });
    }
}
