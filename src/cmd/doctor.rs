//! `callspan doctor`: checks a mirror port or a capture file, and lists problems with their remedies.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::language::CliLanguage;
use super::terminal::paint::Paint;
use super::{DoctorArgs, EXIT_USAGE};
use crate::call::Engine;
use crate::capture::{CaptureError, CaptureEvent, CaptureSource, files, live};
use crate::decode::FrameDecoder;
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::doctor::calls::CallTally;
use crate::ops::doctor::host::{HostClock, HostInterface};
use crate::ops::doctor::report::{self, report};
use crate::ops::doctor::traffic::TrafficMonitor;
use crate::ops::doctor::{Observation, ObservedSource, examine};
use crate::ops::output;
use crate::ops::taps::TapTraffic;
use crate::service::{clock, topology_file};
use crate::time::Timestamp;

/// Runs `callspan doctor`. The exit status shows only whether the check could be carried out: a finding is not a
/// failure of the command.
///
/// # Errors
/// Fails if the interface cannot be opened, the file is not a capture, or the configuration is wrong.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut config = super::load_config(args.config.as_deref(), ConfigPurpose::Inspect)?;
    if let Some(name) = &args.interface {
        config.capture.interfaces = vec![name.clone()];
    }
    let observation = if !args.files.is_empty() {
        observe_files(&config, &args.files)?
    } else if config.capture.interfaces.is_empty() {
        output::note("callspan: nothing to check: give an interface (--interface eth1) or a capture file");
        return Ok(ExitCode::from(EXIT_USAGE));
    } else {
        observe_interfaces(&config, Duration::from_secs(args.seconds))?
    };
    let findings = examine(&observation);
    let report = report(&observation, &findings);
    let text = if args.json {
        let mut line = output::escaped_json(&serde_json::to_string(&report).context("the report as JSON")?);
        line.push('\n');
        line
    } else {
        Paint::of_stdout().findings(&report::text(&report, CliLanguage::current().of_texts()))
    };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn observe_files(config: &Config, names: &[PathBuf]) -> anyhow::Result<Observation> {
    let mut source = files::open(names)?;
    let mut watch = DoctorRun::new(config, source.name());
    loop {
        match watch.step(&mut source) {
            Ok(true) => {}
            Ok(false) => break,
            // If a file is truncated, the part before the cut is examined.
            Err(error) => {
                watch.warnings.push(error.to_string());
                break;
            }
        }
    }
    Ok(watch.finish(&mut source, ObservedSource::Files))
}

fn observe_interfaces(config: &Config, length: Duration) -> anyhow::Result<Observation> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).context("signal handler")?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
    }
    let mut source = live::open(&config.capture, live::MissingInterfacePolicy::Fail)?;
    let before: Vec<HostInterface> = config.capture.interfaces.iter().map(|name| HostInterface::ask(name)).collect();
    output::note(&format!(
        "callspan: checking {} for {} s; press Ctrl-C to end earlier and print the findings so far",
        source.name(),
        length.as_secs()
    ));
    let mut watch = DoctorRun::new(config, source.name());
    watch.engine.restore_topology(&topology_file::load(&config.journal.dir), clock::wall_clock());
    while !stop.load(Ordering::Relaxed) && watch.elapsed() < length {
        if !watch.step(&mut source)? {
            break;
        }
    }
    let subject = ObservedSource::Live {
        interfaces: before.iter().map(|b| HostInterface::ask(&b.name).since(b)).collect(),
        clock: HostClock::ask(),
        buffer_mib: config.capture.buffer_mib,
    };
    Ok(watch.finish(&mut source, subject))
}

/// Decoder, engine and counters that the doctor uses for one capture source.
struct DoctorRun {
    decoder: FrameDecoder,
    engine: Engine,
    traffic: TrafficMonitor,
    calls: CallTally,
    taps: TapTraffic,
    /// Capture times of the first and the last event; `None` before the first event.
    span: Option<(Timestamp, Timestamp)>,
    warnings: Vec<String>,
}

impl DoctorRun {
    fn new(config: &Config, source: &str) -> Self {
        Self {
            decoder: FrameDecoder::new(),
            engine: Engine::new(config.call.clone(), source),
            traffic: TrafficMonitor::default(),
            calls: CallTally::default(),
            taps: TapTraffic::default(),
            span: None,
            warnings: Vec::new(),
        }
    }

    /// Processes one event of the source. Returns false at the end of the source.
    fn step(&mut self, source: &mut dyn CaptureSource) -> Result<bool, CaptureError> {
        let event = source.next_event()?;
        let moment = match &event {
            CaptureEvent::Frame(frame) => frame.at,
            CaptureEvent::Tick(at) | CaptureEvent::ClockStep { at, .. } => *at,
            CaptureEvent::End => return Ok(false),
        };
        let (first, last) = self.span.unwrap_or((moment, moment));
        self.span = Some((first, last.max(moment)));
        let Self { decoder, engine, traffic, calls, taps, .. } = self;
        let mut sink = |decoded: crate::decode::DecodedItem<'_>| {
            traffic.handle_decoded(&decoded);
            taps.handle_decoded(&decoded);
            engine.handle_decoded(&decoded, calls);
        };
        match event {
            CaptureEvent::Frame(frame) => decoder.handle_frame(&frame, &mut sink),
            CaptureEvent::Tick(now) => {
                decoder.handle_timeout(now, &mut sink);
                engine.handle_timeout(now, calls);
            }
            CaptureEvent::ClockStep { by_ns, .. } => engine.handle_clock_step(by_ns, calls),
            CaptureEvent::End => {}
        }
        self.take_events();
        Ok(true)
    }

    fn take_events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.calls.handle_event(&event);
        }
    }

    fn elapsed(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(first, last)| last.since(first))
    }

    fn finish(mut self, source: &mut dyn CaptureSource, subject: ObservedSource) -> Observation {
        let seconds = self.elapsed().as_secs_f64();
        let Self { decoder, engine, traffic, calls, .. } = &mut self;
        decoder.handle_end(&mut |decoded| {
            traffic.handle_decoded(&decoded);
            engine.handle_decoded(&decoded, calls);
        });
        engine.handle_end_of_capture(calls);
        self.take_events();
        self.warnings.extend(source.take_warnings().iter().map(ToString::to_string));
        Observation {
            subject,
            source: source.name().to_owned(),
            first_at: self.span.map(|(first, _)| first),
            seconds,
            capture: source.counters(),
            decode: *self.decoder.counters(),
            engine: *self.engine.counters(),
            traffic: self.traffic.seen(),
            calls: self.calls,
            machines: self.engine.learnt_machines(),
            taps: self.taps.report(source.taps(), &self.decoder),
            warnings: self.warnings,
        }
    }
}
